// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"k8s.io/client-go/rest"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

// where tells where the time of a phase goes: processor seconds of each process of the cluster, and who wrote how often and
// how long that took, scheduler and kubelets included.
type where struct {
	CPUSeconds map[string]float64     `json:"cpuSeconds"`
	Writers    map[string]*writeShare `json:"writers"` // "agent verb resource[/subresource]"
	Reconciles reconciles             `json:"cloneSetReconciles"`
}

// reconciles are those of the CloneSet controller: how many, and how long all together, waiting for answers included.
type reconciles struct {
	Count   float64 `json:"count"`
	Seconds float64 `json:"seconds"`
}

// reconcilesOf reads them from the manager's metrics.
func reconcilesOf(ctx context.Context, m *cluster.Manager) (r reconciles, err error) {
	text, err := get(ctx, http.DefaultClient, m.Metrics)
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, "{")
		into := map[string]*float64{"controller_runtime_reconcile_time_seconds_count": &r.Count, "controller_runtime_reconcile_time_seconds_sum": &r.Seconds}[name]
		labels, value, _ := strings.Cut(rest, "}")
		if into == nil || !strings.Contains(labels, `controller="cloneset-controller"`) {
			continue
		}
		if *into, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
			return r, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return r, nil
}

// writeShare adds up one kind of write of one program.
type writeShare struct {
	Count        int     `json:"count"`
	Refused      int     `json:"refused"` // not answered 2xx, conflicts for the most part
	Milliseconds float64 `json:"meanMilliseconds"`
}

// components measures the processor time of everything that runs for a cluster.
func components(c *cluster.Cluster, m *cluster.Manager) (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, p := range c.Info.Processes {
		t, err := cluster.ProcessCPU(p.PID)
		if err != nil {
			return nil, err
		}
		used[p.Name] += t
	}
	t, err := m.CPU()
	used["kruise-manager"] = t
	return used, err
}

func newWhere(before, after map[string]time.Duration) *where {
	w := &where{CPUSeconds: map[string]float64{}, Writers: map[string]*writeShare{}}
	for name, t := range after {
		w.CPUSeconds[name] = (t - before[name]).Seconds()
	}
	return w
}

func (w *where) add(e lab.AuditEntry) {
	key := e.Agent() + " " + e.Verb + " " + e.Resource
	if e.Subresource != "" {
		key += "/" + e.Subresource
	}
	s := w.Writers[key]
	if s == nil {
		s = &writeShare{}
		w.Writers[key] = s
	}
	s.Count++
	if e.Code/100 != 2 {
		s.Refused++
	}
	s.Milliseconds += (float64(e.Duration)/float64(time.Millisecond) - s.Milliseconds) / float64(s.Count)
}

func (r *report) printWhere(out io.Writer) {
	fmt.Fprintln(out, "\nwhere it goes: processor seconds by process, everybody's writes in the namespace")
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, x := range r.Workloads {
		for _, f := range x.Phases {
			var total float64
			var parts []string
			names := slices.SortedFunc(maps.Keys(f.Where.CPUSeconds), func(a, b string) int {
				return cmp.Compare(f.Where.CPUSeconds[b], f.Where.CPUSeconds[a])
			})
			for _, n := range names {
				total += f.Where.CPUSeconds[n]
				parts = append(parts, fmt.Sprintf("%s %.1f", n, f.Where.CPUSeconds[n]))
			}
			if n := f.Where.Reconciles; n.Count > 0 {
				fmt.Fprintf(w, "%s\t%s\treconciles\t%.0f\t%.0f ms each\n", x.Kind, f.Name, n.Count, 1000*n.Seconds/n.Count)
			}
			fmt.Fprintf(w, "%s\t%s\tprocessor\t%.1f s\t%s\n", x.Kind, f.Name, total, strings.Join(parts, ", "))
			for _, key := range slices.Sorted(maps.Keys(f.Where.Writers)) {
				s := f.Where.Writers[key]
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d refused, %.1f ms each\n", x.Kind, f.Name, key, s.Count, s.Refused, s.Milliseconds)
			}
		}
	}
	_ = w.Flush()
}

// profiles records processor profiles of the apiserver and the manager while a phase runs.
type profiles struct {
	dir     string // empty records nothing
	cluster *cluster.Cluster
	manager *cluster.Manager
}

// start begins to record for at most that many seconds; the phases are recorded from their beginning, whatever their
// length. The function it returns waits for the files.
func (p *profiles) start(ctx context.Context, name string, seconds int) (wait func() error, err error) {
	if p.dir == "" {
		return func() error { return nil }, nil
	}
	cfg := p.cluster.Config()
	apiserver, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	query := fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds)
	var wg sync.WaitGroup
	var errs [2]error
	name = strings.ReplaceAll(name, " ", "-")
	wg.Go(func() {
		errs[0] = fetch(ctx, apiserver, cfg.Host+query, filepath.Join(p.dir, name+"-kube-apiserver.pprof"))
	})
	wg.Go(func() {
		errs[1] = fetch(ctx, http.DefaultClient, p.manager.Pprof+query, filepath.Join(p.dir, name+"-kruise-manager.pprof"))
	})
	return func() error {
		wg.Wait()
		return cmp.Or(errs[0], errs[1])
	}, nil
}

func fetch(ctx context.Context, web *http.Client, url, file string) error {
	data, err := get(ctx, web, url)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func get(ctx context.Context, web *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
