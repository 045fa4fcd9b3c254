// SPDX-License-Identifier: Apache-2.0

// Package integration holds tests that need a real apiserver, scheduler, garbage collector and simulated kubelets: each
// acceptance scenario of a spec that the planner's tests can't prove alone, from the user's side of the API.
//
// All tests share one lab and one manager process with default gates and run in parallel, each in a namespace of its own.
// A test that needs other gates, or kills managers, starts a cluster of its own.
package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

// testsAtOnce is how many tests run side by side on the shared cluster.
const testsAtOnce = 12

// shared is the cluster that tests with default gates use.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	// Tests wait for the cluster most of the time, so many more can run at once than there are processors.
	parallel := flag.Lookup("test.parallel")
	if n, err := strconv.Atoi(parallel.Value.String()); err == nil && n < testsAtOnce {
		_ = parallel.Value.Set(strconv.Itoa(testsAtOnce))
	}
	os.Exit(runWithCluster(m))
}

func runWithCluster(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	if shared, err = cluster.Start(ctx, lab.Options{Nodes: 6}); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			code = 1
		}
	}()
	if _, err := shared.StartManager(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	return m.Run()
}
