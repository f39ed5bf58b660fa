// kstatus reads Kubernetes objects as JSON, one after another, and prints for each what kstatus, by which Helm, Flux and kpt tell
// whether something is done, says of it: `KIND/NAME STATUS MESSAGE`.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	objects := json.NewDecoder(in)
	for {
		object := &unstructured.Unstructured{}
		err := objects.Decode(object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		result, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", object.GetKind(), object.GetName(), err)
		}
		fmt.Fprintf(out, "%s/%s %s %s\n", object.GetKind(), object.GetName(), result.Status, result.Message)
	}
}
