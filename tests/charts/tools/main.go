// Holds manifests on standard input against the Prometheus operator's own Go types, strictly: a
// field that it does not know or a value of another type is an error. Prints what it checked, one
// KIND/NAME a line; kinds that are not the Prometheus operator's pass.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	for _, document := range bytes.Split(text, []byte("\n---")) {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal(document, &head); err != nil {
			fail(err)
		}
		target := typeOf(head.Kind)
		if target == nil {
			continue
		}
		what := head.Kind + "/" + head.Metadata.Name
		if err := yaml.UnmarshalStrict(document, target); err != nil {
			fail(fmt.Errorf("%s: %w", what, err))
		}
		fmt.Println(what)
	}
}

func typeOf(kind string) any {
	switch kind {
	case monitoring.ServiceMonitorsKind:
		return &monitoring.ServiceMonitor{}
	case monitoring.PodMonitorsKind:
		return &monitoring.PodMonitor{}
	case monitoring.PrometheusRuleKind:
		return &monitoring.PrometheusRule{}
	}
	return nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
