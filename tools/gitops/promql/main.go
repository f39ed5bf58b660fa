// promql reads rendered manifests (YAML, several documents), parses the expressions of their PrometheusRules and of the Grafana dashboards in
// their ConfigMaps by Prometheus's own parser, and prints as JSON what metrics these name, and by which labels: {"METRIC": ["LABEL", …]}. A label
// that an aggregation groups by, or that a text shows, counts for every metric of the expression.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// expression is one of a rule or a panel, with the texts that show labels of its result.
type expression struct {
	of, text string
	shown    []string
}

type manifest struct {
	Kind string
	Data map[string]string
	Spec struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
}

type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

// label is how texts show one: {{ $labels.NAME }} in alerts, {{NAME}} in legends.
var label = regexp.MustCompile(`{{\s*(?:\$labels\.)?([a-z_]+)\s*}}`)

// values is how a variable of a dashboard gets its choices.
var values = regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`)

func run(in io.Reader, out io.Writer) error {
	var all []expression
	reader := documents.NewYAMLReader(bufio.NewReader(in))
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read a document: %w", err)
		}
		found, err := expressions(text)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	metrics := map[string][]string{}
	for _, one := range all {
		// What Grafana puts in.
		text := strings.ReplaceAll(one.text, "$__rate_interval", "5m")
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(text)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", one.of, one.text, err)
		}
		if err := collect(metrics, parsed, one.shown); err != nil {
			return fmt.Errorf("%s: %s: %w", one.of, one.text, err)
		}
	}
	for _, used := range metrics {
		slices.Sort(used)
	}
	return json.NewEncoder(out).Encode(metrics)
}

func expressions(text []byte) ([]expression, error) {
	var one manifest
	if err := yaml.Unmarshal(text, &one); err != nil {
		return nil, fmt.Errorf("read a document: %w", err)
	}
	var all []expression
	if one.Kind == "PrometheusRule" {
		for _, group := range one.Spec.Groups {
			for _, rule := range group.Rules {
				shown := []string{}
				for _, text := range rule.Annotations {
					shown = append(shown, labelsIn(text)...)
				}
				all = append(all, expression{of: rule.Alert, text: rule.Expr, shown: shown})
			}
		}
	}
	for name, text := range one.Data {
		if one.Kind != "ConfigMap" || !strings.HasSuffix(name, ".json") {
			continue
		}
		var board dashboard
		if err := json.Unmarshal([]byte(text), &board); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				all = append(all, expression{of: panel.Title, text: target.Expr, shown: labelsIn(target.LegendFormat)})
			}
		}
		for _, variable := range board.Templating.List {
			if variable.Type != "query" {
				continue
			}
			found := values.FindStringSubmatch(variable.Definition)
			if found == nil {
				return nil, fmt.Errorf("%s: variable %s: %q is no label_values(METRIC, LABEL)", name, variable.Name, variable.Definition)
			}
			all = append(all, expression{of: variable.Name, text: found[1], shown: found[2:]})
		}
	}
	return all, nil
}

func labelsIn(text string) []string {
	var names []string
	for _, found := range label.FindAllStringSubmatch(text, -1) {
		names = append(names, found[1])
	}
	return names
}

func collect(metrics map[string][]string, expression parser.Expr, shown []string) error {
	var failed error
	parser.Inspect(expression, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		if selector.Name == "" {
			failed = fmt.Errorf("%s names no metric", selector)
			return failed
		}
		used := metrics[selector.Name]
		note := func(label string) {
			if label != labels.MetricName && !slices.Contains(used, label) {
				used = append(used, label)
			}
		}
		for _, label := range shown {
			note(label)
		}
		for _, matcher := range selector.LabelMatchers {
			note(matcher.Name)
		}
		for _, around := range path {
			if aggregation, ok := around.(*parser.AggregateExpr); ok && !aggregation.Without {
				for _, label := range aggregation.Grouping {
					note(label)
				}
			}
		}
		if used == nil {
			used = []string{}
		}
		metrics[selector.Name] = used
		return nil
	})
	return failed
}
