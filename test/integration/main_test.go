// SPDX-License-Identifier: Apache-2.0

// Package integration holds tests that need a real apiserver, scheduler, garbage collector and simulated kubelets: each
// acceptance scenario of a spec that the planner's tests can't prove alone, from the user's side of the API.
//
// All tests share one lab and one manager process with default gates and run in parallel, each in a namespace of its own.
// A test that needs other gates, or kills managers, starts a cluster of its own.
package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kruise.io/kruise/test/await"
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

// gated is a second cluster, started by the first test that needs it, whose manager has gates on that are off by default.
// What they change does not disturb one another.
var gated = sync.OnceValues(func() (*cluster.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	c, err := cluster.Start(ctx, lab.Options{Nodes: 4})
	if err != nil {
		return nil, err
	}
	gatedStarted.Store(true)
	gates := "CloneSetPartitionRollback=true,InPlaceWorkloadVerticalScaling=true,KruisePodReadinessGate=true," +
		"PreDownloadImageForInPlaceUpdate=true,ResourcesDeletionProtection=true"
	_, err = c.StartManager(ctx, append([]string{"--feature-gates=" + gates}, patientLease...)...)
	return c, err
})

var gatedStarted atomic.Bool

// stopGated stops the second cluster, if it was started.
func stopGated() error {
	if !gatedStarted.Load() {
		return nil
	}
	c, err := gated()
	if c == nil {
		return err
	}
	return c.Stop()
}

func runWithCluster(m *testing.M) (code int) {
	// Every manager of this package panics when something changes an object of its caches (S_platform_28).
	if err := os.Setenv(mutationDetector, "true"); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	var err error
	if shared, err = cluster.Start(ctx, lab.Options{Nodes: 6}); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	defer func() {
		if err := errors.Join(shared.Stop(), stopGated()); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			code = 1
		}
	}()
	manager, err := shared.StartManager(ctx, patientLease...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	theManager = manager
	code = lab.Quietly(m.Run)
	if err := manager.Running(); err != nil {
		fmt.Fprintln(os.Stderr, "integration: the manager did not survive the tests:", err)
		code = 1
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "integration: the end of the manager's log:\n%s\n", lastLines(manager.Log, 20))
	}
	return code
}

const mutationDetector = "KUBE_CACHE_MUTATION_DETECTOR"

// theManager is the process that most tests share.
var theManager *cluster.Manager

// TestCacheMutationDetector_S_platform_28: the manager that all tests of this package use runs with the detector on. That
// it is still there after the last of them is what TestMain looks at.
func TestCacheMutationDetector_S_platform_28(t *testing.T) {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", theManager.Pid()))
	if err != nil {
		t.Skip(err) // not on Linux
	}
	if !strings.Contains(string(env), mutationDetector+"=true") {
		t.Error("the detector is off")
	}
	if err := theManager.Running(); err != nil {
		t.Error(err)
	}
}

// patientLease keeps a manager leading on a machine that is busy with tests.
var patientLease = []string{"--leader-election-lease-duration=120s", "--leader-election-renew-deadline=90s", "--leader-election-retry-period=5s"}

func lastLines(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
