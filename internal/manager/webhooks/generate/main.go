// SPDX-License-Identifier: Apache-2.0

// Command generate writes the webhook configurations of config/webhook from the inventory that the manager uses at run
// time. Run it from the repository's root: go run ./internal/manager/webhooks/generate config/webhook/manifests.yaml
package main

import (
	"fmt"
	"os"

	"kruise.io/kruise/internal/manager/webhooks"
)

func main() {
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: generate FILE")
	}
	manifests, err := webhooks.Manifests()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], manifests, 0o644) //nolint:gosec // a public manifest
}
