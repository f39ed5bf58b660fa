// shapes reads manifests (YAML, several documents) and refuses what the kinds of Flux and of the Prometheus operator do not have: a field of
// another name, a value of another type. It reads them into those projects' own Go types; what their controllers check besides, it does not
// know. It prints `KIND/NAME` of each, and refuses every other kind.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	source "github.com/fluxcd/source-controller/api/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

var kinds = map[metav1.TypeMeta]func() any{
	typed("source.toolkit.fluxcd.io/v1", "GitRepository"):    func() any { return &source.GitRepository{} },
	typed("helm.toolkit.fluxcd.io/v2", "HelmRelease"):        func() any { return &helm.HelmRelease{} },
	typed("kustomize.toolkit.fluxcd.io/v1", "Kustomization"): func() any { return &kustomize.Kustomization{} },
	typed("monitoring.coreos.com/v1", "PodMonitor"):          func() any { return &monitoring.PodMonitor{} },
	typed("monitoring.coreos.com/v1", "PrometheusRule"):      func() any { return &monitoring.PrometheusRule{} },
	typed("monitoring.coreos.com/v1", "ServiceMonitor"):      func() any { return &monitoring.ServiceMonitor{} },
}

func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	reader := documents.NewYAMLReader(bufio.NewReader(in))
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a document: %w", err)
		}
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(text, &head); err != nil {
			return fmt.Errorf("read a document: %w", err)
		}
		if head.Kind == "" {
			continue // comments alone
		}
		what := head.Kind + "/" + head.Name
		make, known := kinds[head.TypeMeta]
		if !known {
			return fmt.Errorf("%s is of %s, which is not known here", what, head.APIVersion)
		}
		if err := yaml.UnmarshalStrict(text, make()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		fmt.Fprintln(out, what)
	}
}
