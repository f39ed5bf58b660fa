package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// now stands, in what an action is to make, for the time at which it was called.
const now = "NOW"

// test runs the tests of a folder GROUP/KIND/{health_test.yaml, actions/action_test.yaml}, in the form of Argo CD's own.
func test(scripts customizations, folder string, out io.Writer) error {
	var failures []string
	count := 0
	tested := map[string]bool{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var run []func() error
		switch entry.Name() {
		case "health_test.yaml":
			run, err = healthTests(scripts, path)
			tested[filepath.Dir(path)] = true
		case "action_test.yaml":
			run, err = actionTests(scripts, path)
		}
		for _, one := range run {
			count++
			if failure := one(); failure != nil {
				failures = append(failures, failure.Error())
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	for name := range scripts {
		if !tested[filepath.Join(folder, name)] {
			failures = append(failures, name+" has no health_test.yaml")
		}
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d of %d tests failed:\n%s", len(failures), count, strings.Join(failures, "\n"))
	}
	fmt.Fprintf(out, "%d tests passed\n", count)
	return nil
}

func healthTests(scripts customizations, path string) ([]func() error, error) {
	var file struct {
		Tests []struct {
			InputPath    string `json:"inputPath"`
			HealthStatus health `json:"healthStatus"`
		} `json:"tests"`
	}
	if err := decode(path, &file); err != nil {
		return nil, err
	}
	var run []func() error
	for _, one := range file.Tests {
		run = append(run, func() error {
			input := filepath.Join(filepath.Dir(path), one.InputPath)
			object, err := object(input)
			if err != nil {
				return err
			}
			found, err := scripts.of(object).health(object)
			if err != nil {
				return fmt.Errorf("%s: %w", input, err)
			}
			if found != one.HealthStatus {
				return fmt.Errorf("%s: is %+v, and should be %+v", input, found, one.HealthStatus)
			}
			return nil
		})
	}
	return run, nil
}

func actionTests(scripts customizations, path string) ([]func() error, error) {
	var file struct {
		DiscoveryTests []struct {
			InputPath string `json:"inputPath"`
			Result    []struct {
				Name     string `json:"name"`
				Disabled bool   `json:"disabled"`
			} `json:"result"`
		} `json:"discoveryTests"`
		ActionTests []struct {
			Action             string `json:"action"`
			InputPath          string `json:"inputPath"`
			ExpectedOutputPath string `json:"expectedOutputPath"`
		} `json:"actionTests"`
	}
	if err := decode(path, &file); err != nil {
		return nil, err
	}
	folder := filepath.Dir(path)
	var run []func() error
	for _, one := range file.DiscoveryTests {
		run = append(run, func() error {
			input := filepath.Join(folder, one.InputPath)
			object, err := object(input)
			if err != nil {
				return err
			}
			found, err := scripts.of(object).actions(object)
			if err != nil {
				return fmt.Errorf("%s: %w", input, err)
			}
			wanted := map[string]bool{}
			for _, action := range one.Result {
				wanted[action.Name] = action.Disabled
			}
			if !reflect.DeepEqual(found, wanted) {
				return fmt.Errorf("%s: disabled actions are %v, and should be %v", input, found, wanted)
			}
			return nil
		})
	}
	for _, one := range file.ActionTests {
		run = append(run, func() error {
			input := filepath.Join(folder, one.InputPath)
			before, err := object(input)
			if err != nil {
				return err
			}
			wanted, err := object(filepath.Join(folder, one.ExpectedOutputPath))
			if err != nil {
				return err
			}
			made, err := scripts.of(before).act(one.Action, before)
			if err != nil {
				return fmt.Errorf("%s: %w", input, err)
			}
			if difference := differs(made, wanted, ""); difference != "" {
				return fmt.Errorf("%s: %s: %s", input, one.Action, difference)
			}
			return nil
		})
	}
	return run, nil
}

// differs says where two objects are not the same; nothing, where they are.
func differs(made, wanted any, at string) string {
	if wanted, ok := wanted.(map[string]any); ok {
		if made, ok := made.(map[string]any); ok {
			for key := range made {
				if _, there := wanted[key]; !there {
					return fmt.Sprintf("%s.%s should not be there", at, key)
				}
			}
			for key := range wanted {
				if difference := differs(made[key], wanted[key], at+"."+key); difference != "" {
					return difference
				}
			}
			return ""
		}
	}
	if text, ok := wanted.(string); ok && strings.HasSuffix(text, now) {
		said, _ := made.(string)
		called, err := time.Parse(time.RFC3339, strings.TrimPrefix(said, strings.TrimSuffix(text, now)))
		if err == nil && time.Since(called).Abs() < time.Minute {
			return ""
		}
	}
	if !reflect.DeepEqual(made, wanted) {
		return fmt.Sprintf("%s is %v, and should be %v", at, made, wanted)
	}
	return ""
}

func object(path string) (map[string]any, error) {
	var object map[string]any
	err := decode(path, &object)
	return object, err
}

func decode(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
