// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/seconds"
)

// answerTime is how long an agent may take to report on a task, beyond the task's own deadline (image-pulling 5.2).
const answerTime = 10 * time.Minute

const (
	messageNoAnswer = "node has not responded for a long time"
	messageDeadline = "pulling exceeds the activeDeadlineSeconds"
)

// nodeSnapshot is what the plan for one node's NodeImage looks at.
type nodeSnapshot struct {
	node  *corev1.Node           // nil if there is none
	image *appsv1beta1.NodeImage // nil if there is none
	// owner tells about the owner of a task.
	owner func(corev1.ObjectReference) ownerPhase
	// secretGone says whether a secret of the earlier scheme certainly does not exist.
	secretGone func(appsv1beta1.ReferenceObject) bool
	// creationDelay is how long a node must have been ready.
	creationDelay time.Duration
	now           time.Time
}

// failedTask is a task that the manager declares failed.
type failedTask struct {
	image, message string
	owners         []corev1.ObjectReference
}

// nodeDecision is at most one write, and when to look again.
type nodeDecision struct {
	create, delete bool
	// spec is the NodeImage with new metadata and spec, status the one with a new status; nil for no change.
	spec, status *appsv1beta1.NodeImage
	failed       []failedTask
	requeueAfter time.Duration // 0 for never
}

// planNode decides about the NodeImage of one name (image-pulling 5.2).
func planNode(s *nodeSnapshot) *nodeDecision {
	d := &nodeDecision{}
	switch {
	case s.node == nil || s.node.DeletionTimestamp != nil:
		if s.image != nil && s.image.DeletionTimestamp == nil {
			if _, fake := s.image.Labels[appsv1beta1.FakeNodeImageLabelKey]; !fake {
				d.delete = true
				return d
			}
			planTasks(s, d)
		}
	case s.image == nil:
		planCreation(s, d)
	case s.image.DeletionTimestamp == nil:
		planTasks(s, d)
	}
	return d
}

// planCreation waits until the node has been ready for the delay. A node that is not ready wakes us when it is.
func planCreation(s *nodeSnapshot, d *nodeDecision) {
	if isVirtualKubelet(s.node) {
		return
	}
	for _, c := range s.node.Status.Conditions {
		if c.Type != corev1.NodeReady || c.Status != corev1.ConditionTrue {
			continue
		}
		since := c.LastTransitionTime.Time
		if since.After(s.now) { // by a clock that is ahead of ours
			since = s.node.CreationTimestamp.Time
		}
		if left := s.creationDelay - s.now.Sub(since); left > 0 {
			d.requeueAfter = left
			return
		}
		d.create = true
	}
}

// planTasks brings labels and tasks up to date or, if they are, answers for agents that do not.
func planTasks(s *nodeSnapshot, d *nodeDecision) {
	n := s.image.DeepCopy()
	changed := false
	if s.node != nil && !maps.Equal(n.Labels, s.node.Labels) {
		n.Labels = maps.Clone(s.node.Labels)
		changed = true
	}
	if s.pruneImages(n, d) {
		changed = true
	}
	if changed {
		d.spec, d.requeueAfter = n, 0 // the update brings us back
		return
	}
	s.answerForAgent(n, d)
}

func (s *nodeSnapshot) pruneImages(n *appsv1beta1.NodeImage, d *nodeDecision) (changed bool) {
	for _, name := range slices.Sorted(maps.Keys(n.Spec.Images)) {
		entry := n.Spec.Images[name]
		was := len(entry.Tags)
		kept := entry.Tags[:0]
		for i := range entry.Tags {
			task := entry.Tags[i]
			keep, edited := s.keepTask(n, name, &task, d)
			changed = changed || edited
			if keep {
				kept = append(kept, task)
			}
		}
		entry.Tags = kept
		changed = changed || len(kept) < was
		if len(kept) == 0 {
			delete(n.Spec.Images, name)
			changed = true
			continue
		}
		secrets := slices.DeleteFunc(slices.Clone(entry.PullSecrets), func(r appsv1beta1.ReferenceObject) bool {
			return r.Mode == "" && s.secretGone(r)
		})
		if len(secrets) < len(entry.PullSecrets) {
			entry.PullSecrets, changed = secrets, true
		}
		n.Spec.Images[name] = entry
	}
	return changed
}

// keepTask says whether a task stays, and drops owners that are gone from it. A finished task is forgotten after its time
// to live, but not while a job that counts its result still runs (W1).
func (s *nodeSnapshot) keepTask(n *appsv1beta1.NodeImage, name string, task *appsv1beta1.ImageTagSpec, d *nodeDecision) (keep, edited bool) {
	if task.CreatedAt == nil {
		return false, false
	}
	waits := false
	if len(task.OwnerReferences) > 0 {
		owners := make([]corev1.ObjectReference, 0, len(task.OwnerReferences))
		for _, o := range task.OwnerReferences {
			phase := ownerUnknown
			if isJob(o) {
				phase = s.owner(o)
			}
			if phase != ownerGone {
				owners = append(owners, o)
			}
			waits = waits || phase == ownerActive || isJob(o) && phase == ownerUnknown // it may run
		}
		if len(owners) == 0 {
			return false, true
		}
		edited = len(owners) < len(task.OwnerReferences)
		task.OwnerReferences = owners
	}
	st := tagStatus(n, name, task.Tag)
	if waits || st == nil || st.Version != task.Version || st.CompletionTime == nil ||
		task.PullPolicy == nil || task.PullPolicy.TTLSecondsAfterFinished == nil {
		return true, edited
	}
	left := time.Duration(*task.PullPolicy.TTLSecondsAfterFinished)*time.Second - s.now.Sub(st.CompletionTime.Time)
	if left <= 0 {
		return false, edited
	}
	d.lookAgain(left)
	return true, edited
}

// answerForAgent fails tasks on which the agent has not reported in time. The clock of all limits is createdAt (W14).
func (s *nodeSnapshot) answerForAgent(n *appsv1beta1.NodeImage, d *nodeDecision) {
	for _, name := range slices.Sorted(maps.Keys(n.Spec.Images)) {
		for i := range n.Spec.Images[name].Tags {
			task := &n.Spec.Images[name].Tags[i]
			st := tagStatus(n, name, task.Tag)
			limit, message := answerTime, messageNoAnswer
			if st != nil && st.Version == task.Version {
				if st.CompletionTime != nil || task.PullPolicy == nil || task.PullPolicy.ActiveDeadlineSeconds == nil {
					continue
				}
				limit += seconds.Of(*task.PullPolicy.ActiveDeadlineSeconds)
				message = messageDeadline
			}
			if left := limit - s.now.Sub(task.CreatedAt.Time); left > 0 {
				d.lookAgain(left)
				continue
			}
			setTagStatus(n, name, appsv1beta1.ImageTagStatus{
				Tag: task.Tag, Version: task.Version, Phase: appsv1beta1.ImagePhaseFailed,
				CompletionTime: ptr.To(metav1.NewTime(s.now)), Message: message, StartTime: startOf(st, task),
			})
			d.failed = append(d.failed, failedTask{image: name + ":" + task.Tag, message: message, owners: task.OwnerReferences})
		}
	}
	if len(d.failed) == 0 {
		return
	}
	pruneStatus(n)
	recount(n)
	if !equality.Semantic.DeepEqual(n.Status, s.image.Status) {
		d.status = n
	}
}

func startOf(st *appsv1beta1.ImageTagStatus, task *appsv1beta1.ImageTagSpec) *metav1.Time {
	if st != nil && st.Version == task.Version {
		return st.StartTime
	}
	return nil
}

func setTagStatus(n *appsv1beta1.NodeImage, name string, st appsv1beta1.ImageTagStatus) {
	if old := tagStatus(n, name, st.Tag); old != nil {
		*old = st
		return
	}
	if n.Status.ImageStatuses == nil {
		n.Status.ImageStatuses = map[string]appsv1beta1.ImageStatus{}
	}
	entry := n.Status.ImageStatuses[name]
	entry.Tags = append(entry.Tags, st)
	slices.SortFunc(entry.Tags, func(a, b appsv1beta1.ImageTagStatus) int {
		if a.Tag < b.Tag {
			return -1
		}
		return 1
	})
	n.Status.ImageStatuses[name] = entry
}

// pruneStatus drops what is reported of tasks that are not in the spec.
func pruneStatus(n *appsv1beta1.NodeImage) {
	for name, entry := range n.Status.ImageStatuses {
		tags := n.Spec.Images[name].Tags
		entry.Tags = slices.DeleteFunc(entry.Tags, func(st appsv1beta1.ImageTagStatus) bool { return findTag(tags, st.Tag) < 0 })
		if len(entry.Tags) == 0 {
			delete(n.Status.ImageStatuses, name)
			continue
		}
		n.Status.ImageStatuses[name] = entry
	}
}

// recount computes the counters after a correction; waiting is the agent's alone (image-pulling 6).
func recount(n *appsv1beta1.NodeImage) {
	st := &n.Status
	st.Desired, st.Succeeded, st.Failed, st.Pulling = 0, 0, 0, 0
	for name := range n.Spec.Images {
		st.Desired += int32(len(n.Spec.Images[name].Tags))
	}
	for _, entry := range st.ImageStatuses {
		for i := range entry.Tags {
			switch entry.Tags[i].Phase {
			case appsv1beta1.ImagePhaseSucceeded:
				st.Succeeded++
			case appsv1beta1.ImagePhaseFailed:
				st.Failed++
			case appsv1beta1.ImagePhasePulling:
				st.Pulling++
			}
		}
	}
}

func (d *nodeDecision) lookAgain(after time.Duration) {
	if d.requeueAfter == 0 || after < d.requeueAfter {
		d.requeueAfter = after
	}
}

func isVirtualKubelet(node *corev1.Node) bool { return node.Labels["type"] == "virtual-kubelet" }
