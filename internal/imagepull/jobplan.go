// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/seconds"
)

// roomPeriod is how often a job looks whether others have left room for it: their ends don't wake it.
const roomPeriod = 5 * time.Second

// jobSnapshot is what the plan of a running ImagePullJob looks at.
type jobSnapshot struct {
	request
	// targets are the NodeImages the job is about, in the order in which they get the task.
	targets []*appsv1beta1.NodeImage
	// owned are the NodeImages on which the job owns a task, targets or not.
	owned []*appsv1beta1.NodeImage
	// room is how many nodes may get a task of any job, nil if there is no such bound.
	room *int
	// secretProblem names pull secrets that are not used, and why; part of the message.
	secretProblem string
}

// jobDecision is what to do for a job, and what is not done for which reason.
type jobDecision struct {
	// push are NodeImages that get the task now; refresh have it and lack an edit of the job; withdraw have it and are
	// not meant any more.
	push, refresh, withdraw []*appsv1beta1.NodeImage
	// held has the reason for each node that waits for something other than parallelism. conflict is one of them, if
	// that is the sandboxConfig of another namespace's job.
	held     map[string]string
	conflict string
	// status is that of the job if every push succeeds.
	status appsv1beta1.ImagePullJobStatus
	// requeueAfter is when the deadline needs another look; 0 for never.
	requeueAfter time.Duration
}

// planJob decides about a job that has no completion time and is not being deleted (image-pulling 5.3, 5.4, 6).
func planJob(s *jobSnapshot) *jobDecision {
	d := &jobDecision{held: map[string]string{}}
	byClass := map[class][]string{}
	slots := max(0, parallelism(s.job))
	var waiting []*appsv1beta1.NodeImage
	for _, n := range s.targets {
		switch c := classify(&s.request, n); c {
		case classWaiting:
			refused := s.mayJoin(n)
			switch {
			case refused == nil:
				waiting = append(waiting, n)
			case refused.final:
				d.held[n.Name] = refused.reason
				c = classFailed
			default:
				d.held[n.Name], d.conflict = refused.reason, refused.reason
			}
			byClass[c] = append(byClass[c], n.Name)
		case classActive:
			slots--
			if probe := *n; changes(s.join(&probe)) {
				d.refresh = append(d.refresh, n)
			}
			byClass[c] = append(byClass[c], n.Name)
		default:
			byClass[c] = append(byClass[c], n.Name)
		}
	}
	planWithdrawals(s, d)
	summarise(s, d, byClass)
	if d.status.CompletionTime != nil {
		d.refresh = nil
		return d
	}
	d.push = waiting[:min(len(waiting), max(0, slots))]
	if s.room != nil && len(d.push) > *s.room {
		d.push = d.push[:max(0, *s.room)]
		d.status.Message += "; waits for pulls of other jobs (--max-active-pulls)"
		if d.requeueAfter == 0 || d.requeueAfter > roomPeriod {
			d.requeueAfter = roomPeriod
		}
	}
	d.status.Active += int32(len(d.push))
	return d
}

// unfinished counts the tasks that agents work on, or have not answered.
func unfinished(list []appsv1beta1.NodeImage) (count int) {
	for i := range list {
		for name, entry := range list[i].Spec.Images {
			for t := range entry.Tags {
				if !isFinished(&list[i], name, &entry.Tags[t]) {
					count++
				}
			}
		}
	}
	return count
}

func changes(changed bool, _ *refusal) bool { return changed }

// planWithdrawals finds the tasks that were pushed for a former image or to nodes that are no longer selected (W6).
func planWithdrawals(s *jobSnapshot, d *jobDecision) {
	target := make(map[string]bool, len(s.targets))
	for _, n := range s.targets {
		target[n.Name] = true
	}
	for _, n := range s.owned {
		probe := *n
		if s.leaveStale(&probe, target[n.Name]) {
			d.withdraw = append(d.withdraw, n)
		}
	}
}

// leaveStale removes the job from every task on n but the one it wants; on a node that is no target it wants none.
func (r *request) leaveStale(n *appsv1beta1.NodeImage, target bool) bool {
	if target {
		return leave(n, r.job.UID, &r.image)
	}
	return leave(n, r.job.UID, nil)
}

// summarise computes the status, and whether the job is over (image-pulling 6, W13, W25).
func summarise(s *jobSnapshot, d *jobDecision, byClass map[class][]string) {
	count := func(c class) int32 { return int32(len(byClass[c])) }
	st := &d.status
	*st = appsv1beta1.ImagePullJobStatus{
		StartTime: s.job.Status.StartTime.DeepCopy(),
		Desired:   int32(len(s.targets)),
		Active:    count(classActive), Succeeded: count(classSucceeded), Failed: count(classFailed),
		FailedNodes: byClass[classFailed],
	}
	if st.StartTime == nil {
		st.StartTime = ptr.To(metav1.NewTime(s.now))
	}
	slices.Sort(st.FailedNodes)
	policy := &s.job.Spec.CompletionPolicy
	if done := st.Succeeded + st.Failed; policy.Type != appsv1beta1.Never && done == st.Desired {
		st.CompletionTime = ptr.To(metav1.NewTime(s.now))
		st.Message = "job has completed"
		if st.Desired == 0 {
			st.Message = "job has completed, it selects no node"
		}
	} else if st.Desired == 0 {
		st.Message = "job is running, no progress"
	} else {
		st.Message = fmt.Sprintf("job is running, progress %.1f%%", 100*float64(done)/float64(st.Desired))
	}
	if st.CompletionTime == nil && policy.Type != appsv1beta1.Never && policy.ActiveDeadlineSeconds != nil {
		deadline := st.StartTime.Add(seconds.Of(*policy.ActiveDeadlineSeconds))
		if left := deadline.Sub(s.now); left > 0 {
			d.requeueAfter = max(left, time.Second)
		} else {
			st.CompletionTime = ptr.To(metav1.NewTime(s.now))
			st.FailedNodes = slices.Sorted(slices.Values(slices.Concat(
				byClass[classFailed], byClass[classActive], byClass[classWaiting])))
			st.Failed, st.Active = int32(len(st.FailedNodes)), 0
			st.Message = "job exceeds activeDeadlineSeconds"
		}
	}
	st.Message += notes(s, d)
}

// notes adds to the message what keeps nodes or secrets from being used.
func notes(s *jobSnapshot, d *jobDecision) string {
	out := ""
	if s.secretProblem != "" {
		out += "; " + s.secretProblem
	}
	if len(d.held) > 0 {
		first := ""
		for name := range d.held {
			if first == "" || name < first {
				first = name
			}
		}
		out += fmt.Sprintf("; %d nodes can't take the task, e.g. %s: %s", len(d.held), first, d.held[first])
	}
	return out
}

// parallelism is the number of nodes that may work at once: 1 if absent, 0, which pauses, if it is not a number.
func parallelism(job *appsv1beta1.ImagePullJob) int { return parallelismOf(job.Spec.Parallelism) }

func parallelismOf(p *intstr.IntOrString) int {
	if p == nil {
		return 1
	}
	return p.IntValue() // of a string: its number, or 0
}
