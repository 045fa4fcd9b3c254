// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// progressing maintains the condition Progressing (cloneset 4.2, 6). Its lastUpdateTime is the clock of the deadline. As
// for a Deployment, the clock starts again whenever the rollout is resumed, gets a new goal, or makes progress
// (weakness 7).
func (p *planner) progressing() {
	st := &p.d.Status
	deadline := p.cs.Spec.ProgressDeadlineSeconds
	if deadline == nil || *deadline == math.MaxInt32 {
		st.Conditions = slices.DeleteFunc(st.Conditions, func(c appsv1beta1.CloneSetCondition) bool {
			return c.Type == appsv1beta1.CloneSetConditionTypeProgressing
		})
		return
	}
	now := p.s.Now
	old := findCondition(p.cs.Status.Conditions, appsv1beta1.CloneSetConditionTypeProgressing)
	switch replicas := int32(p.limits.replicas); {
	case st.CurrentRevision == st.UpdateRevision && st.Replicas == replicas && st.UpdatedReplicas == replicas && st.UpdatedAvailableReplicas == replicas:
		p.setProgressing(corev1.ConditionTrue, appsv1beta1.CloneSetAvailable, "CloneSet is available", false)
	case p.paused():
		p.setProgressing(corev1.ConditionTrue, appsv1beta1.CloneSetProgressPaused, "CloneSet is paused", false)
	case st.ExpectedUpdatedReplicas < replicas && st.ExpectedUpdatedReplicas <= st.UpdatedAvailableReplicas:
		p.setProgressing(corev1.ConditionTrue, appsv1beta1.CloneSetProgressPartitionAvailable, "CloneSet has been paused due to partition ready", false)
	case old == nil || restarts(old.Reason) || p.progressed():
		p.setProgressing(corev1.ConditionTrue, appsv1beta1.CloneSetProgressUpdated, "CloneSet is progressing", true)
		p.after(wakeAfter(time.Duration(*deadline) * time.Second))
	default:
		left := old.LastUpdateTime.Add(time.Duration(*deadline) * time.Second).Sub(now)
		if old.Reason == appsv1beta1.CloneSetProgressDeadlineExceeded || left < 0 {
			p.setProgressing(corev1.ConditionFalse, appsv1beta1.CloneSetProgressDeadlineExceeded,
				"CloneSet revision "+st.UpdateRevision+" has timed out progressing", false)
			return
		}
		p.setProgressing(corev1.ConditionTrue, appsv1beta1.CloneSetProgressUpdated, "CloneSet is progressing", false)
		p.after(wakeAfter(left))
	}
}

// restarts says whether a rollout that goes on from a condition with this reason starts its clock anew.
func restarts(reason string) bool {
	switch reason {
	case appsv1beta1.CloneSetAvailable, appsv1beta1.CloneSetProgressPaused, appsv1beta1.CloneSetProgressPartitionAvailable:
		return true
	}
	return false
}

// progressed says whether the rollout has a new goal or came nearer to it since the status was last written.
func (p *planner) progressed() bool {
	old, st := &p.cs.Status, &p.d.Status
	return st.UpdateRevision != old.UpdateRevision ||
		st.ExpectedUpdatedReplicas != old.ExpectedUpdatedReplicas ||
		st.UpdatedReplicas > old.UpdatedReplicas ||
		st.UpdatedReadyReplicas > old.UpdatedReadyReplicas ||
		st.UpdatedAvailableReplicas > old.UpdatedAvailableReplicas ||
		st.ReadyReplicas > old.ReadyReplicas ||
		st.AvailableReplicas > old.AvailableReplicas
}

// wakeAfter is when to look whether the deadline has passed: a second late, so that one look is enough.
func wakeAfter(left time.Duration) time.Duration {
	if left >= time.Second {
		return left + time.Second
	}
	return max(left, 10*time.Millisecond)
}

func (p *planner) setProgressing(status corev1.ConditionStatus, reason, message string, restart bool) {
	setCondition(&p.d.Status, appsv1beta1.CloneSetCondition{
		Type: appsv1beta1.CloneSetConditionTypeProgressing, Status: status, Reason: reason, Message: message,
	}, p.s.Now, restart)
}

// Reasons of the conditions FailedScale and FailedUpdate.
const (
	reasonScaleFailed  = "ScaleFailed"
	reasonScaled       = "ScaleSucceeded"
	reasonUpdateFailed = "UpdateFailed"
	reasonUpdated      = "UpdateSucceeded"
	// reasonTerminating is FailedScale's reason in a namespace that is being deleted.
	reasonTerminating = "NamespaceTerminating"
)

// reportFailures sets FailedScale and FailedUpdate by the outcome of the writes. A condition that never was true is not
// added; one that was turns False with the next success (weakness 8).
func reportFailures(st *appsv1beta1.CloneSetStatus, scaleErr, updateErr error, now time.Time) {
	report := func(t appsv1beta1.CloneSetConditionType, err error, failed, succeeded string) {
		c := appsv1beta1.CloneSetCondition{Type: t, Status: corev1.ConditionTrue, Reason: failed}
		switch {
		case err != nil:
			c.Message = shorten(err)
		case findCondition(st.Conditions, t) == nil:
			return
		default:
			c.Status, c.Reason = corev1.ConditionFalse, succeeded
		}
		setCondition(st, c, now, false)
	}
	scaleFailed := reasonScaleFailed
	if errors.Is(scaleErr, errTerminating) {
		scaleFailed = reasonTerminating
	}
	report(appsv1beta1.CloneSetConditionFailedScale, scaleErr, scaleFailed, reasonScaled)
	report(appsv1beta1.CloneSetConditionFailedUpdate, updateErr, reasonUpdateFailed, reasonUpdated)
}

// maxMessage bounds the message of a condition, in bytes, and maxErrors the number of errors it lists.
const (
	maxMessage = 1024
	maxErrors  = 3
)

// shorten makes a message of an error that may be a list of many.
func shorten(err error) string {
	text := err.Error()
	if list := flat(err); len(list) > maxErrors {
		text = errors.Join(list[:maxErrors]...).Error() + "\n..."
	}
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") // the cut may be inside a character
	}
	return text
}

// brief is an error whose text is short enough for a log.
type brief struct{ error }

// Error implements error.
func (b brief) Error() string { return shorten(b.error) }

// Unwrap returns the whole error.
func (b brief) Unwrap() error { return b.error }

// flat lists the errors that were joined, and joined again.
func flat(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, flat(e)...)
	}
	return list
}

func findCondition(conditions []appsv1beta1.CloneSetCondition, t appsv1beta1.CloneSetConditionType) *appsv1beta1.CloneSetCondition {
	for i := range conditions {
		if conditions[i].Type == t {
			return &conditions[i]
		}
	}
	return nil
}

// setCondition puts c in place of the condition of its type. With unchanged status, reason and message nothing changes,
// not even times, unless restart asks for a new lastUpdateTime.
func setCondition(st *appsv1beta1.CloneSetStatus, c appsv1beta1.CloneSetCondition, now time.Time, restart bool) {
	t := metav1.NewTime(now.Truncate(time.Second))
	c.LastUpdateTime, c.LastTransitionTime = t, t
	old := findCondition(st.Conditions, c.Type)
	if old == nil {
		st.Conditions = append(st.Conditions, c)
		return
	}
	if old.Status == c.Status {
		if old.Reason == c.Reason && old.Message == c.Message && !restart {
			return
		}
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}
