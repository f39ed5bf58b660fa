// reach tells whether NetworkPolicies let calls through, as Cyclonus has it, by which network plug-ins are tested. It reads
// `{"policies": […], "calls": [{"from": PEER, "to": PEER, "port": 80}]}`, where a PEER is a pod (`namespace`, `labels`) or an address (`ip`), and
// prints a line for each call: `allowed` or `refused`. Namespaces have the label of their name that the API server gives them.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

type question struct {
	Policies []*networking.NetworkPolicy `json:"policies"`
	Calls    []call                      `json:"calls"`
}

type call struct {
	From peer `json:"from"`
	To   peer `json:"to"`
	Port int  `json:"port"`
}

type peer struct {
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
	IP        string            `json:"ip"`
}

// Of a pod whose address is of no interest.
const somewhere = "10.244.0.9"

func (p peer) traffic() *matcher.TrafficPeer {
	if p.Namespace == "" {
		return &matcher.TrafficPeer{IP: p.IP}
	}
	return &matcher.TrafficPeer{IP: somewhere, Internal: &matcher.InternalPeer{
		PodLabels:       p.Labels,
		NamespaceLabels: map[string]string{core.LabelMetadataName: p.Namespace},
		Namespace:       p.Namespace,
	}}
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var asked question
	reader := json.NewDecoder(in)
	reader.DisallowUnknownFields()
	if err := reader.Decode(&asked); err != nil {
		return fmt.Errorf("read what is asked: %w", err)
	}
	policy := matcher.BuildNetworkPolicies(false, asked.Policies)
	for _, it := range asked.Calls {
		traffic := &matcher.Traffic{
			Source: it.From.traffic(), Destination: it.To.traffic(), ResolvedPort: it.Port, Protocol: core.ProtocolTCP,
		}
		said := "refused"
		if policy.IsTrafficAllowed(traffic).IsAllowed() {
			said = "allowed"
		}
		fmt.Fprintln(out, said)
	}
	return nil
}
