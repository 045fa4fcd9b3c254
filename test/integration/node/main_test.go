// SPDX-License-Identifier: Apache-2.0

// Package node holds tests of the node agent against a real apiserver, with the agent's real credentials and rights, and
// a container runtime in memory. What needs a real kubelet or a real registry is in test/e2e.
//
// All tests share one lab and one manager; each has nodes of its own.
package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/config"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const nodes = 30

var (
	shared  *cluster.Cluster
	manager *cluster.Manager
	// taken counts the nodes that tests have got.
	taken atomic.Int32
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Tests wait for the cluster most of the time, so more can run at once than there are processors.
	parallel := flag.Lookup("test.parallel")
	if n, err := strconv.Atoi(parallel.Value.String()); err == nil && n < 8 {
		_ = parallel.Value.Set("8")
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "node tests:", err)
		return 1
	}
	var err error
	if shared, err = cluster.Start(ctx, lab.Options{Nodes: nodes}); err != nil {
		return fail(err)
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			code = fail(err)
		}
	}()
	for _, file := range []string{"rbac/daemon-account.yaml", "rbac/daemon.yaml", "rbac/daemon-metrics-auth.yaml", "namespaces/daemon-config.yaml", "rbac/manager.yaml", "rbac/manager-pullsecret.yaml"} {
		if err := apply(ctx, file); err != nil {
			return fail(fmt.Errorf("%s: %w", file, err))
		}
	}
	if err := startManager(ctx, "--v=1"); err != nil {
		return fail(err)
	}
	return lab.Quietly(m.Run)
}

// startManager starts the manager, after the one that runs.
func startManager(ctx context.Context, args ...string) (err error) {
	if manager != nil {
		if err := manager.Stop(); err != nil {
			return err
		}
	}
	manager, err = shared.StartManager(ctx, append(args, "--feature-gates=ImagePullJobGate=true", "--nodeimage-creation-delay=0s",
		"--leader-election-lease-duration=120s", "--leader-election-renew-deadline=90s", "--leader-election-retry-period=1s")...)
	return err
}

// apply creates the objects of a manifest of config, or updates those that are there.
func apply(ctx context.Context, file string) error {
	f, err := config.FS.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	docs := yaml.NewYAMLOrJSONDecoder(f, 1<<16)
	for {
		obj := &unstructured.Unstructured{}
		if err := docs.Decode(&obj.Object); err != nil {
			if err.Error() == "EOF" {
				return nil
			}
			return err
		}
		if len(obj.Object) == 0 || obj.GetAnnotations()["rbac.kruise.io/rendered-when"] == "manager.watchPullSecrets" { // off by default
			continue
		}
		if err := shared.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("test"), client.ForceOwnership); err != nil {
			return err
		}
	}
}

// freeNode returns the name of a node that no other test has.
func freeNode(t *testing.T) string {
	t.Helper()
	list := &corev1.NodeList{}
	if err := shared.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	i := int(taken.Add(1)) - 1
	if i >= len(list.Items) {
		t.Fatal(errors.New("more nodes are needed: raise the constant"))
	}
	return list.Items[i].Name
}
