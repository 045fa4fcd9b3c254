// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests that need real nodes: kubelets, a container runtime, image pulls and a network
// (docs/real-nodes.md). All of them share one lab with three real nodes, in which Kruise runs as a user has it: manager
// and agents are pods with service accounts of their own, and webhooks are called through their Service.
//
// They run with `make e2e` only, as root: without KRUISE_E2E=1 in the environment the package says so and passes. With
// KRUISE_LAB_DIR they use the lab there, with KUBECONFIG_LAB any cluster; Kruise is installed unless it is there already,
// and tests that need what such a cluster lacks are skipped.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const nodes = 3

// shared is the cluster that all tests use.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("KRUISE_E2E") == "" {
		fmt.Println("e2e tests need real nodes and thus root: run them with `make e2e`")
		return
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: real nodes need root")
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			code = 1
		}
	}()
	if err := install(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		fmt.Fprintln(os.Stderr, describeInstallation())
		return 1
	}
	code = lab.Quietly(m.Run)
	if shared.AuditLog() != "" {
		if _, err := auditAgents(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: S_security_12:", err)
			code = 1
		}
	}
	return code
}

// start uses the cluster that the environment names, or starts a lab.
func start(ctx context.Context) error {
	l, err := lab.Use()
	if l == nil && err == nil {
		l, err = lab.Start(ctx, lab.Options{RealNodes: nodes})
	}
	if err != nil {
		return err
	}
	shared, err = cluster.Of(l)
	return err
}
