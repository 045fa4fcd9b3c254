// SPDX-License-Identifier: Apache-2.0

// Command demo shows the main job on a real control plane: it updates the image of a CloneSet in place, does the same
// with a Deployment, and prints both side by side. It ends by itself, cleans up, and fails when a claim it prints is false.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const (
	namespace = "demo"
	imageOld  = "registry.example/web:v1"
	imageNew  = "registry.example/web:v2"
)

func main() {
	var opts options
	flag.IntVar(&opts.replicas, "replicas", 10, "pods of each workload")
	flag.IntVar(&opts.nodes, "nodes", 20, "simulated nodes")
	flag.StringVar(&opts.maxUnavailable, "max-unavailable", "20%", "maxUnavailable of both workloads; maxSurge is 0")
	flag.BoolVar(&opts.keep, "keep", false, "leave the cluster and the manager running")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, opts)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	replicas, nodes int
	maxUnavailable  string
	keep            bool
}

// run returns an error when a step fails or a claim turns out to be false.
func run(ctx context.Context, opts options) (err error) {
	dir, err := filepath.Abs(filepath.Join(".lab", "demo"))
	if err != nil {
		return err
	}
	say("Starting etcd, kube-apiserver, controller-manager, scheduler and %d simulated nodes", opts.nodes)
	c, err := start(ctx, dir, opts)
	if err != nil {
		return err
	}
	var manager *cluster.Manager
	defer func() {
		if opts.keep && err == nil {
			printKept(c, manager)
			return
		}
		err = errors.Join(err, c.Stop())
	}()

	say("Starting kruise-manager")
	if manager, err = c.StartManager(ctx); err != nil {
		return err
	}
	screen := newScreen(os.Stdout, term.IsTerminal(int(os.Stdout.Fd())))
	inPlace, err := roll(ctx, c, screen, cloneSet(opts))
	if err != nil {
		return err
	}
	recreated, err := roll(ctx, c, screen, deployment(opts))
	if err != nil {
		return err
	}
	printComparison(os.Stdout, c.Info, inPlace, recreated)
	return check(os.Stdout, inPlace, recreated)
}

// start brings up a lab that ends with the demo, or one that outlives it.
func start(ctx context.Context, dir string, opts options) (*cluster.Cluster, error) {
	if opts.keep {
		return cluster.StartDetached(ctx, dir, opts.nodes)
	}
	return cluster.Start(ctx, lab.Options{Dir: dir, Nodes: opts.nodes})
}

func printKept(c *cluster.Cluster, m *cluster.Manager) {
	fmt.Printf("\nThe cluster and the manager (pid %d) keep running. To look around:\n\n  export KUBECONFIG=%s\n  bin/lab kubectl --dir %s get clonesets,pods -A   # or a kubectl of yours\n\nTo stop them:\n\n  kill %d; bin/lab down --dir %s\n",
		m.Pid(), c.Kubeconfig(), c.Dir, m.Pid(), c.Dir)
}

var started = time.Now()

// say prints one line of progress with the seconds since the start.
func say(format string, args ...any) {
	fmt.Printf("[%5.1f s] %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
}
