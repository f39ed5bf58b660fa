// argocd runs the scripts of a ConfigMap `argocd-cm` as Argo CD does: in the same interpreter, with the same few libraries.
//
//	argocd judge CONFIGMAP            objects as JSON on standard input; for each a line of JSON: its health, and its actions
//	argocd act CONFIGMAP ACTION       one object as JSON on standard input; what the action makes of it on standard output
//	argocd test CONFIGMAP FOLDER      the tests of FOLDER, which is laid out as Argo CD's `resource_customizations`
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(words []string, in io.Reader, out io.Writer) error {
	if len(words) < 2 {
		return errors.New("usage: argocd judge CONFIGMAP | argocd act CONFIGMAP ACTION | argocd test CONFIGMAP FOLDER")
	}
	scripts, err := read(words[1])
	if err != nil {
		return fmt.Errorf("%s: %w", words[1], err)
	}
	switch {
	case words[0] == "judge" && len(words) == 2:
		return judge(scripts, in, out)
	case words[0] == "act" && len(words) == 3:
		var object map[string]any
		if err := json.NewDecoder(in).Decode(&object); err != nil {
			return fmt.Errorf("read the object: %w", err)
		}
		made, err := scripts.of(object).act(words[2], object)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(made)
	case words[0] == "test" && len(words) == 3:
		return test(scripts, words[2], out)
	}
	return fmt.Errorf("%q is no command, or has another number of arguments", words[0])
}

func judge(scripts customizations, in io.Reader, out io.Writer) error {
	objects, lines := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var object map[string]any
		err := objects.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		found, err := scripts.of(object).health(object)
		if err != nil {
			return err
		}
		actions, err := scripts.of(object).actions(object)
		if err != nil {
			return err
		}
		if err := lines.Encode(map[string]any{"health": found, "actions": actions}); err != nil {
			return err
		}
	}
}

// customizations are the scripts by GROUP/KIND.
type customizations map[string]customization

type customization struct {
	Health  string
	Actions struct {
		Discovery   string       `json:"discovery.lua"`
		Definitions []definition `json:"definitions"`
	}
}

type definition struct {
	Name   string `json:"name"`
	Action string `json:"action.lua"`
}

// of gives the scripts for an object; none, where there are none.
func (scripts customizations) of(object map[string]any) customization {
	version, _ := object["apiVersion"].(string)
	group, _, _ := strings.Cut(version, "/")
	kind, _ := object["kind"].(string)
	return scripts[group+"/"+kind]
}

// read reads the keys `resource.customizations.WHAT.GROUP_KIND`, which Argo CD looks for, and refuses others.
func read(path string) (customizations, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(text, &configMap); err != nil {
		return nil, err
	}
	scripts := customizations{}
	for key, value := range configMap.Data {
		what, of, found := strings.Cut(strings.TrimPrefix(key, "resource.customizations."), ".")
		name := strings.Replace(of, "_", "/", 1)
		one := scripts[name]
		switch {
		case found && what == "health":
			one.Health = value
		case found && what == "actions":
			if err := yaml.UnmarshalStrict([]byte(value), &one.Actions); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		default:
			return nil, fmt.Errorf("%s is no key of scripts", key)
		}
		scripts[name] = one
	}
	return scripts, nil
}
