package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// timeLimit is how long Argo CD lets a script run.
const timeLimit = time.Second

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// statuses are all that Argo CD knows; it makes Unknown of others.
var statuses = []string{"Healthy", "Progressing", "Suspended", "Degraded", "Missing", "Unknown"}

func (it customization) health(object map[string]any) (health, error) {
	var found health
	text, err := call(it.Health, object)
	if err != nil {
		return found, fmt.Errorf("health.lua: %w", err)
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return found, fmt.Errorf("health.lua gives %s: %w", text, err)
	}
	if !slices.Contains(statuses, found.Status) {
		return found, fmt.Errorf("health.lua gives the status %q, which is none of %v", found.Status, statuses)
	}
	return found, nil
}

// actions gives the names of what can be done, and whether it is disabled.
func (it customization) actions(object map[string]any) (map[string]bool, error) {
	text, err := call(it.Actions.Discovery, object)
	if err != nil {
		return nil, fmt.Errorf("discovery.lua: %w", err)
	}
	var found map[string]struct {
		Disabled bool `json:"disabled"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, fmt.Errorf("discovery.lua gives %s: %w", text, err)
	}
	actions := map[string]bool{}
	for name, action := range found {
		if !slices.ContainsFunc(it.Actions.Definitions, func(defined definition) bool { return defined.Name == name }) {
			return nil, fmt.Errorf("discovery.lua offers %q, which is not defined", name)
		}
		actions[name] = action.Disabled
	}
	for _, defined := range it.Actions.Definitions {
		if _, offered := actions[defined.Name]; !offered {
			return nil, fmt.Errorf("discovery.lua does not offer %q, which is defined", defined.Name)
		}
	}
	return actions, nil
}

// act gives the object as the action makes it.
func (it customization) act(name string, object map[string]any) (map[string]any, error) {
	for _, defined := range it.Actions.Definitions {
		if defined.Name != name {
			continue
		}
		text, err := call(defined.Action, object)
		if err != nil {
			return nil, fmt.Errorf("%s/action.lua: %w", name, err)
		}
		var made map[string]any
		if err := json.Unmarshal(text, &made); err != nil {
			return nil, fmt.Errorf("%s/action.lua gives %s: %w", name, text, err)
		}
		return mended(made, object).(map[string]any), nil
	}
	return nil, fmt.Errorf("there is no action %q", name)
}

// mended gives back the maps that were empty: Lua does not tell them from empty lists. Argo CD does the same.
func mended(made, before any) any {
	switch made := made.(type) {
	case map[string]any:
		if before, ok := before.(map[string]any); ok {
			for key := range made {
				made[key] = mended(made[key], before[key])
			}
		}
	case []any:
		switch before := before.(type) {
		case map[string]any:
			if len(made) == 0 {
				return before
			}
		case []any:
			for index := range min(len(made), len(before)) {
				made[index] = mended(made[index], before[index])
			}
		}
	}
	return made
}

// call runs a script with the global `obj`; what it returns, a table, as JSON.
func call(script string, object map[string]any) ([]byte, error) {
	if script == "" {
		return nil, fmt.Errorf("there is no script for %v of %v", object["kind"], object["apiVersion"])
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.OsLibName: openTimes,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, fmt.Errorf("it returns %s, not a table", returned.Type())
	}
	return luajson.Encode(returned)
}

// openTimes opens what Argo CD leaves of the library os.
func openTimes(state *lua.LState) int {
	lua.OpenOs(state)
	all := state.Get(-1).(*lua.LTable)
	var others []lua.LValue
	all.ForEach(func(name, _ lua.LValue) {
		if name.String() != "date" && name.String() != "time" {
			others = append(others, name)
		}
	})
	for _, name := range others {
		all.RawSet(name, lua.LNil)
	}
	return 1
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case bool:
		return lua.LBool(from)
	case float64:
		return lua.LNumber(from)
	case string:
		return lua.LString(from)
	case []any:
		list := state.CreateTable(len(from), 0)
		for _, item := range from {
			list.Append(value(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(from))
		for key, item := range from {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
