// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"kruise.io/kruise/test/lab"
)

// report holds the figures of one cluster size.
type report struct {
	Pods           int                `json:"pods"`
	MaxUnavailable string             `json:"maxUnavailable"`
	StartDelay     string             `json:"startDelay"`
	RestartDelay   string             `json:"restartDelay"`
	ManagerPeakMiB float64            `json:"managerPeakMiB"`
	Workloads      []*workloadFigures `json:"workloads"`
	Rounds         []ratios           `json:"rounds"`
}

// ratios are what the CloneSet's phases took, over the Deployment's, in one round.
type ratios struct {
	CreateSeconds   float64 `json:"createSeconds"`
	CreateProcessor float64 `json:"createProcessor"` // of the whole cluster
	UpdateSeconds   float64 `json:"updateSeconds"`
	UpdateProcessor float64 `json:"updateProcessor"`
}

func (r *report) ratios() ratios {
	over := func(phase int, of func(*phaseFigures) float64) float64 {
		return of(r.phase(0, phase)) / of(r.phase(1, phase))
	}
	seconds := func(f *phaseFigures) float64 { return f.Seconds }
	processor := func(f *phaseFigures) (sum float64) {
		for _, s := range f.Where.CPUSeconds {
			sum += s
		}
		return sum
	}
	return ratios{over(0, seconds), over(0, processor), over(1, seconds), over(1, processor)}
}

// median is that of one ratio over all rounds.
func (r *report) median(of func(ratios) float64) float64 {
	values := make([]float64, 0, len(r.Rounds))
	for _, x := range r.Rounds {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

type workloadFigures struct {
	Kind   string          `json:"kind"`
	Phases []*phaseFigures `json:"phases"`
}

// phaseFigures say what one phase cost.
type phaseFigures struct {
	Name              string             `json:"name"`
	Seconds           float64            `json:"seconds"`
	ManagerCPUSeconds float64            `json:"managerCPUSeconds"`
	ManagerCPUms      float64            `json:"managerCPUMillisecondsPerPod"`
	Writes            map[string]int     `json:"writes"` // "verb resource[/subresource]", answered 2xx or not
	WritesPerPod      map[string]float64 `json:"writesPerPod"`
	TotalPerPod       float64            `json:"podWritesPerPod"` // writes to pods alone
	StatusPerSecond   float64            `json:"workloadStatusWritesPerSecond"`
	Conflicts         int                `json:"conflicts"`
	ConflictShare     float64            `json:"conflictShare"`
	Where             *where             `json:"where"`

	statusWrites []time.Time
}

func (f *phaseFigures) add(e lab.AuditEntry) {
	key := e.Verb + " " + e.Resource
	if e.Subresource != "" {
		key += "/" + e.Subresource
	}
	f.Writes[key]++
	if e.Code == http.StatusConflict {
		f.Conflicts++
	}
	switch {
	case e.Resource == "pods":
		f.TotalPerPod++
	case e.Subresource == "status":
		f.statusWrites = append(f.statusWrites, e.Time)
	}
}

// scale turns sums into figures per pod and second.
func (f *phaseFigures) scale(pods int) {
	all := 0
	f.WritesPerPod = map[string]float64{}
	for key, n := range f.Writes {
		all += n
		f.WritesPerPod[key] = float64(n) / float64(pods)
	}
	f.TotalPerPod /= float64(pods)
	// n writes have n-1 gaps between the first and the last.
	if n := len(f.statusWrites); n > 1 {
		f.StatusPerSecond = float64(n-1) / max(f.statusWrites[n-1].Sub(f.statusWrites[0]).Seconds(), 1)
	}
	f.ManagerCPUms = f.ManagerCPUSeconds * 1000 / float64(pods)
	f.ConflictShare = float64(f.Conflicts) / float64(max(all, 1))
}

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "\n%d pods, maxUnavailable %s, maxSurge 0; simulated start delay %s, restart delay %s; manager peak memory %.0f MiB\n\n",
		r.Pods, r.MaxUnavailable, r.StartDelay, r.RestartDelay, r.ManagerPeakMiB)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "workload\tphase\tseconds\tpod writes/pod\tstatus writes/s\tconflicts\tmanager CPU s\tms/pod")
	for _, x := range r.Workloads {
		for _, f := range x.Phases {
			fmt.Fprintf(w, "%s\t%s\t%.1f\t%.2f\t%.2f\t%d (%.1f%%)\t%.2f\t%.2f\n", x.Kind, f.Name, f.Seconds, f.TotalPerPod, f.StatusPerSecond, f.Conflicts, 100*f.ConflictShare, f.ManagerCPUSeconds, f.ManagerCPUms)
		}
	}
	_ = w.Flush()
	fmt.Fprintln(out, "\nCloneSet over Deployment, round by round")
	w = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "round\tcreate: seconds\tprocessor of all\tupdate: seconds\tprocessor of all")
	for i, x := range r.Rounds {
		fmt.Fprintf(w, "%d\t%.2f\t%.2f\t%.2f\t%.2f\n", i+1, x.CreateSeconds, x.CreateProcessor, x.UpdateSeconds, x.UpdateProcessor)
	}
	_ = w.Flush()
	fmt.Fprintln(out, "\nwrites of the workload's controllers")
	w = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, x := range r.Workloads {
		for _, f := range x.Phases {
			for _, key := range slices.Sorted(maps.Keys(f.Writes)) {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.3f per pod\n", x.Kind, f.Name, key, f.Writes[key], f.WritesPerPod[key])
			}
		}
	}
	_ = w.Flush()
}

func (r *report) phase(workload, phase int) *phaseFigures { return r.Workloads[workload].Phases[phase] }

// printGoals holds the figures against the design's goals and returns how many are missed.
func printGoals(out io.Writer, reports []*report) (missed int) {
	fmt.Fprintln(out, "\ngoals")
	goal := func(text string, got, limit float64) {
		verdict := "met   "
		if got > limit {
			verdict, missed = "MISSED", missed+1
		}
		fmt.Fprintf(out, "%s %-62s %8.2f, at most %.2f\n", verdict, text, got, limit)
	}
	for i, r := range reports {
		create, update, scaleIn := r.phase(0, 0), r.phase(0, 1), r.phase(0, 2)
		if i > 0 {
			small := reports[0]
			of := fmt.Sprintf("at %d pods over %d", r.Pods, small.Pods)
			goal("CPU per pod created, "+of, create.ManagerCPUms/max(small.phase(0, 0).ManagerCPUms, 0.01), 1.3)
			goal("CPU per pod updated, "+of, update.ManagerCPUms/max(small.phase(0, 1).ManagerCPUms, 0.01), 1.3)
			continue
		}
		goal("writes per pod created", create.TotalPerPod, 2.1)
		goal("writes per pod updated in place", update.TotalPerPod, 3.1)
		goal("writes per pod deleted", scaleIn.TotalPerPod, 1.05)
		goal("status writes per second", max(create.StatusPerSecond, update.StatusPerSecond, scaleIn.StatusPerSecond), 1)
		goal("conflicts, percent of writes", 100*max(create.ConflictShare, update.ConflictShare, scaleIn.ConflictShare), 1)
		goal("manager CPU ms per pod created", create.ManagerCPUms, 4)
		goal("manager CPU ms per pod updated", update.ManagerCPUms, 6)
		goal("manager peak memory, MiB", r.ManagerPeakMiB, 70)
		goal("seconds to create, over the Deployment's", r.median(func(x ratios) float64 { return x.CreateSeconds }), 1)
		goal("seconds to update in place, over the Deployment's", r.median(func(x ratios) float64 { return x.UpdateSeconds }), 0.5)
	}
	return missed
}
