// tiltfile runs a Tiltfile in the interpreter that Tilt uses, over functions that do nothing but check: names and types of arguments, files
// that are named, objects and workloads that are really in the manifests, images that something runs. `helm` is run, as Tilt does.
//
//	tiltfile TILTFILE HELM
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		var evaluation *starlark.EvalError
		if errors.As(err, &evaluation) {
			fmt.Fprintln(os.Stderr, evaluation.Backtrace())
		}
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) != 2 {
		return errors.New("usage: tiltfile TILTFILE HELM")
	}
	text, err := os.ReadFile(words[0])
	if err != nil {
		return err
	}
	world := &world{folder: filepath.Dir(words[0]), helm: words[1], uses: map[string]bool{}}
	functions := starlark.StringDict{
		"TRIGGER_MODE_AUTO":   starlark.MakeInt(0),
		"TRIGGER_MODE_MANUAL": starlark.MakeInt(1),
	}
	for name, function := range map[string]builtin{
		"docker_build": world.dockerBuild, "helm": world.runHelm, "k8s_resource": world.k8sResource, "k8s_yaml": world.k8sYAML,
		"listdir": world.listDirectory, "local_resource": world.localResource,
	} {
		functions[name] = starlark.NewBuiltin(name, function)
	}
	// Tilt's dialect has `for` and `if` at the top, and lets a global be set again.
	dialect := &syntax.FileOptions{TopLevelControl: true, GlobalReassign: true, Set: true}
	if _, err := starlark.ExecFileOptions(dialect, &starlark.Thread{Name: words[0]}, words[0], text, functions); err != nil {
		return err
	}
	return world.finish()
}

type builtin = func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error)

// world is what the functions of a Tiltfile are called in, and what they have said.
type world struct {
	folder, helm string
	manifests    []manifest
	images       []string
	resources    []string
	// dependencies are names that must be resources in the end, by who named them.
	dependencies [][2]string
	ports        []string
	// uses are images that containers name.
	uses map[string]bool
}

func (it *world) file(path string) (string, error) {
	path = filepath.Join(it.folder, path)
	_, err := os.Stat(path)
	return path, err
}

// finish checks what can be known only at the end.
func (it *world) finish() error {
	for _, one := range it.dependencies {
		if !slices.Contains(it.resources, one[1]) {
			return fmt.Errorf("%s depends on %q, which is no resource; there are %v", one[0], one[1], it.resources)
		}
	}
	for _, image := range it.images {
		if !it.uses[image] {
			return fmt.Errorf("nothing runs the image %s", image)
		}
	}
	fmt.Printf("%d objects; resources %s; images %s\n", len(it.manifests), strings.Join(it.resources, ", "), strings.Join(it.images, ", "))
	return nil
}
