// SPDX-License-Identifier: Apache-2.0

// Command perf measures what CloneSets cost: API writes, processor time and memory of the manager, and seconds, when pods
// are created, updated in place and removed, beside a Deployment in the same run on the same simulated nodes.
// It prints tables, writes JSON, and fails when a goal of the design is missed and -check is given.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

func main() {
	sizes := flag.String("sizes", "500,2000", "pods of each workload, comma separated")
	out := flag.String("json", "", "file for the figures as JSON")
	maxUnavailable := flag.String("max-unavailable", "20%", "maxUnavailable of both workloads; maxSurge is 0")
	profile := flag.String("profile", "", "directory for processor profiles of apiserver and manager, one per phase")
	rounds := flag.Int("rounds", 1, "how often both workloads take turns; more than once tells a busy machine's noise from a difference")
	checkGoals := flag.Bool("check", false, "exit 1 when a goal is missed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	missed, err := run(ctx, *sizes, *maxUnavailable, *out, *profile, *rounds)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "perf: %v\n", err)
		os.Exit(1)
	}
	if missed > 0 && *checkGoals {
		os.Exit(1)
	}
}

func run(ctx context.Context, sizes, maxUnavailable, out, profile string, rounds int) (missed int, err error) {
	var reports []*report
	for s := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return 0, fmt.Errorf("-sizes: %q is not a number of pods", s)
		}
		r, err := measure(ctx, n, maxUnavailable, profile, max(rounds, 1))
		if err != nil {
			return 0, fmt.Errorf("%d pods: %w", n, err)
		}
		r.print(os.Stdout)
		r.printWhere(os.Stdout)
		reports = append(reports, r)
	}
	missed = printGoals(os.Stdout, reports)
	if out != "" {
		data, err := json.MarshalIndent(reports, "", "  ")
		if err != nil {
			return missed, err
		}
		return missed, os.WriteFile(out, append(data, '\n'), 0o600)
	}
	return missed, nil
}

// measure runs both workloads, one after the other, on a cluster of their own. The figures are those of the last round.
func measure(ctx context.Context, pods int, maxUnavailable, profile string, rounds int) (r *report, err error) {
	c, err := cluster.Start(ctx, lab.Options{Nodes: max(4, pods/50)})
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopErr := c.Stop(); err == nil {
			err = stopErr
		}
	}()
	var args []string
	if profile != "" {
		args = append(args, "--enable-pprof")
	}
	m, err := c.StartManager(ctx, args...)
	if err != nil {
		return nil, err
	}
	r = &report{Pods: pods, MaxUnavailable: maxUnavailable, StartDelay: c.Info.StartDelay, RestartDelay: c.Info.RestartDelay}
	for n := range rounds {
		r.Workloads = nil
		for _, w := range []workload{
			cloneSet(fmt.Sprintf("cloneset-%d", n+1), pods, maxUnavailable),
			deployment(fmt.Sprintf("deployment-%d", n+1), pods, maxUnavailable),
		} {
			b := &bench{cluster: c, manager: m, workload: w, profiles: &profiles{dir: profile, cluster: c, manager: m}}
			figures, err := b.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.kind, err)
			}
			r.Workloads = append(r.Workloads, figures)
		}
		r.Rounds = append(r.Rounds, r.ratios())
	}
	peak, err := m.PeakMemory()
	if err != nil {
		return nil, err
	}
	r.ManagerPeakMiB = float64(peak) / (1 << 20)
	return r, nil
}
