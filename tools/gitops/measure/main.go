// measure reads metrics and prints the number that its argument, a selector of Prometheus, finds among them: with Prometheus's own parsers, as
// KEDA's scaler `metrics-api` does for `format: prometheus`.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(words []string, in io.Reader, out io.Writer) error {
	if len(words) != 1 {
		return errors.New("a selector is needed")
	}
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(words[0])
	if err != nil {
		return fmt.Errorf("read %s: %w", words[0], err)
	}
	reader := expfmt.NewTextParser(model.UTF8Validation)
	families, err := reader.TextToMetricFamilies(in)
	if err != nil {
		return fmt.Errorf("read the metrics: %w", err)
	}
	var found []float64
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			all := map[string]string{labels.MetricName: name}
			for _, label := range metric.GetLabel() {
				all[label.GetName()] = label.GetValue()
			}
			if metric.Gauge != nil && matches(matchers, all) {
				found = append(found, metric.GetGauge().GetValue())
			}
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%s finds %d gauges, and is to find one", words[0], len(found))
	}
	fmt.Fprintln(out, found[0])
	return nil
}

func matches(matchers []*labels.Matcher, all map[string]string) bool {
	for _, it := range matchers {
		if !it.Matches(all[it.Name]) {
			return false
		}
	}
	return true
}
