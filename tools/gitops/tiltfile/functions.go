package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// manifest is what is looked at of an object.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Image string
					Env   []struct{ Value string }
				}
			}
		}
	}
}

// blob is what `helm` gives to `k8s_yaml`.
type blob string

func (blob) Type() string          { return "blob" }
func (blob) Freeze()               {}
func (blob) Truth() starlark.Bool  { return true }
func (it blob) String() string     { return string(it) }
func (blob) Hash() (uint32, error) { return 0, errors.New("a blob has no hash") }

func (it *world) dockerBuild(_ *starlark.Thread, of *starlark.Builtin, words starlark.Tuple, named []starlark.Tuple) (starlark.Value, error) {
	var image, context, target string
	dockerfile := "Dockerfile"
	var inVariables bool
	err := starlark.UnpackArgs(of.Name(), words, named, "ref", &image, "context", &context, "dockerfile?", &dockerfile, "target?", &target,
		"match_in_env_vars?", &inVariables)
	if err != nil {
		return nil, err
	}
	if _, err := it.file(context); err != nil {
		return nil, err
	}
	path, err := it.file(dockerfile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if target != "" && !regexp.MustCompile(`(?mi)^FROM \S+ AS `+regexp.QuoteMeta(target)+`$`).Match(text) {
		return nil, fmt.Errorf("%s has no stage %q", dockerfile, target)
	}
	it.images = append(it.images, image)
	return starlark.None, nil
}

func (it *world) runHelm(_ *starlark.Thread, of *starlark.Builtin, words starlark.Tuple, named []starlark.Tuple) (starlark.Value, error) {
	var path, name, namespace string
	var values, set *starlark.List
	err := starlark.UnpackArgs(of.Name(), words, named, "paths", &path, "name?", &name, "namespace?", &namespace, "values?", &values, "set?", &set)
	if err != nil {
		return nil, err
	}
	chart, err := it.file(path)
	if err != nil {
		return nil, err
	}
	arguments := []string{"template", name, chart, "--namespace", namespace, "--skip-tests"}
	for flag, list := range map[string]*starlark.List{"--values": values, "--set": set} {
		all, err := texts(list)
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			arguments = append(arguments, flag, one)
		}
	}
	var said, errors bytes.Buffer
	command := exec.Command(it.helm, arguments...)
	command.Stdout, command.Stderr = &said, &errors
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("helm %v: %w: %s", arguments, err, errors.String())
	}
	return blob(said.String()), nil
}

func (it *world) k8sYAML(_ *starlark.Thread, of *starlark.Builtin, words starlark.Tuple, named []starlark.Tuple) (starlark.Value, error) {
	var what starlark.Value
	var duplicates bool
	if err := starlark.UnpackArgs(of.Name(), words, named, "yaml", &what, "allow_duplicates?", &duplicates); err != nil {
		return nil, err
	}
	switch what := what.(type) {
	case blob:
		return starlark.None, it.read([]byte(what))
	case starlark.String:
		return starlark.None, it.readFile(string(what))
	case *starlark.List:
		all, err := texts(what)
		if err != nil {
			return nil, err
		}
		for _, path := range all {
			if err := it.readFile(path); err != nil {
				return nil, err
			}
		}
		return starlark.None, nil
	}
	return nil, fmt.Errorf("%s takes a path, a list of paths or a blob, not %s", of.Name(), what.Type())
}

func (it *world) readFile(path string) error {
	path, err := it.file(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := it.read(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (it *world) read(text []byte) error {
	reader := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var one manifest
		if err := yaml.Unmarshal(document, &one); err != nil {
			return err
		}
		if one.Kind == "" {
			continue
		}
		it.manifests = append(it.manifests, one)
		for _, container := range one.Spec.Template.Spec.Containers {
			it.uses[withoutTag(container.Image)] = true
		}
		if one.Kind == "Deployment" {
			it.resources = append(it.resources, one.Metadata.Name)
		}
	}
}

func withoutTag(image string) string {
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		return image[:colon]
	}
	return image
}

func (it *world) k8sResource(_ *starlark.Thread, of *starlark.Builtin, words starlark.Tuple, named []starlark.Tuple) (starlark.Value, error) {
	var workload, newName string
	var objects, selectors, dependencies, ports, labels *starlark.List
	err := starlark.UnpackArgs(of.Name(), words, named, "workload?", &workload, "new_name?", &newName, "port_forwards?", &ports,
		"extra_pod_selectors?", &selectors, "resource_deps?", &dependencies, "objects?", &objects, "labels?", &labels)
	if err != nil {
		return nil, err
	}
	name := workload
	switch {
	case workload != "" && !slices.Contains(it.resources, workload):
		return nil, fmt.Errorf("there is no workload %q; there are %v", workload, it.resources)
	case workload == "" && (newName == "" || objects == nil):
		return nil, errors.New("k8s_resource needs a workload, or new_name and objects")
	case workload == "":
		name = newName
		it.resources = append(it.resources, newName)
	}
	all, err := texts(objects)
	if err != nil {
		return nil, err
	}
	for _, object := range all {
		is := func(one manifest) bool { return one.Metadata.Name+":"+strings.ToLower(one.Kind) == object }
		if !slices.ContainsFunc(it.manifests, is) {
			return nil, fmt.Errorf("there is no object %q", object)
		}
	}
	forwarded, err := texts(ports)
	if err != nil {
		return nil, err
	}
	for _, port := range forwarded {
		for _, number := range strings.Split(port, ":") {
			if _, err := strconv.ParseUint(number, 10, 16); err != nil {
				return nil, fmt.Errorf("port_forwards of %s: %w", name, err)
			}
		}
		local, _, _ := strings.Cut(port, ":")
		if slices.Contains(it.ports, local) {
			return nil, fmt.Errorf("port_forwards of %s: another has port %s, too", name, local)
		}
		it.ports = append(it.ports, local)
	}
	return starlark.None, it.depends(name, dependencies, labels)
}

func (it *world) localResource(_ *starlark.Thread, of *starlark.Builtin, words starlark.Tuple, named []starlark.Tuple) (starlark.Value, error) {
	var name, command string
	var dependencies, labels *starlark.List
	var mode int
	initial := true
	err := starlark.UnpackArgs(of.Name(), words, named, "name", &name, "cmd", &command, "trigger_mode?", &mode, "resource_deps?", &dependencies,
		"auto_init?", &initial, "labels?", &labels)
	if err != nil {
		return nil, err
	}
	// Tilt gives it to a shell, which is asked whether it can read it.
	if said, err := exec.Command("sh", "-n", "-c", command).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cmd of %s: %w: %s", name, err, said)
	}
	it.resources = append(it.resources, name)
	return starlark.None, it.depends(name, dependencies, labels)
}

func (it *world) depends(name string, dependencies, labels *starlark.List) error {
	all, err := texts(dependencies)
	if err != nil {
		return err
	}
	for _, other := range all {
		it.dependencies = append(it.dependencies, [2]string{name, other})
	}
	_, err = texts(labels)
	return err
}

func (it *world) listDirectory(_ *starlark.Thread, of *starlark.Builtin, words starlark.Tuple, named []starlark.Tuple) (starlark.Value, error) {
	var path string
	if err := starlark.UnpackArgs(of.Name(), words, named, "directory", &path); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(it.folder, path))
	if err != nil {
		return nil, err
	}
	var paths []starlark.Value
	for _, entry := range entries {
		paths = append(paths, starlark.String(filepath.Join(path, entry.Name())))
	}
	return starlark.NewList(paths), nil
}

// texts gives the strings of a list, and refuses another.
func texts(list *starlark.List) ([]string, error) {
	if list == nil {
		return nil, nil
	}
	var all []string
	for item := range list.Elements() {
		text, ok := starlark.AsString(item)
		if !ok {
			return nil, fmt.Errorf("%s is no string", item)
		}
		all = append(all, text)
	}
	return all, nil
}
