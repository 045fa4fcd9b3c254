// SPDX-License-Identifier: Apache-2.0

// Package containerrecreate has the controller of ContainerRecreateRequests (spec container-restart). It tells the node's
// agent how the kubelet sees the new containers, holds the pod not ready meanwhile, and ends requests that get nowhere.
// The containers themselves are stopped by the agent (internal/node/restart).
package containerrecreate

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/seconds"
)

const (
	// answerTime is how long the agent may take to pick a request up.
	answerTime = time.Minute
	// pollTime is the slow safety poll of the pod while containers are recreated; pod events are what counts (W21).
	pollTime = 30 * time.Second

	messagePodGone  = "pod has gone"
	messageNoAnswer = "daemon has not responded for a long time"
	messageDeadline = "recreating has exceeded the activeDeadlineSeconds"
)

// snapshot is what a plan looks at. pod is the one of the request's name, nil if there is none.
type snapshot struct {
	crr *appsv1beta1.ContainerRecreateRequest
	pod *corev1.Pod
	now time.Time
}

// decision says what to do, in the order of its fields. At most one of the groups has something to do besides waiting.
type decision struct {
	release         bool // give the pod its readiness back
	removeFinalizer bool
	removeActive    bool // remove the label active
	delete          bool // the time to live is over

	complete string // message of the completion; empty for none

	addFinalizer bool
	block        bool                                        // hold the pod not ready
	status       *appsv1beta1.ContainerRecreateRequestStatus // nil for no change

	requeueAfter time.Duration
}

// plan decides about one request (container-restart 5.2).
func plan(s *snapshot) *decision {
	d := &decision{}
	crr := s.crr
	if crr.DeletionTimestamp != nil || crr.Status.CompletionTime != nil || crr.Status.Phase == appsv1beta1.ContainerRecreateRequestCompleted {
		planEnd(s, d)
		return d
	}
	if s.pod == nil || s.pod.DeletionTimestamp != nil || string(s.pod.UID) != crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey] {
		d.complete = messagePodGone
		return d
	}
	age := s.now.Sub(crr.CreationTimestamp.Time)
	if crr.Status.Phase == "" {
		if age >= answerTime {
			d.complete = messageNoAnswer
			return d
		}
		d.lookAgain(answerTime - age)
	}
	if limit := crr.Spec.ActiveDeadlineSeconds; limit != nil {
		left := seconds.Of(*limit) - age
		if left <= 0 {
			d.complete = messageDeadline
			return d
		}
		d.lookAgain(left)
	}
	if crr.Status.Phase == appsv1beta1.ContainerRecreateRequestRecreating {
		planRecreating(s, d)
		d.lookAgain(pollTime)
	}
	return d
}

// planEnd gives back what the request holds and then lets it go.
func planEnd(s *snapshot, d *decision) {
	crr := s.crr
	for _, f := range crr.Finalizers {
		if f == appsv1beta1.ContainerRecreateRequestUnreadyAcquiredFinalizer {
			d.removeFinalizer = true
			// Another pod of the same name is none of our business (W16).
			d.release = s.pod != nil && s.pod.DeletionTimestamp == nil &&
				string(s.pod.UID) == crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey] && pod.IsBlocked(s.pod, key(crr))
		}
	}
	if crr.DeletionTimestamp != nil {
		return
	}
	_, d.removeActive = crr.Labels[appsv1beta1.ContainerRecreateRequestActiveKey]
	if ttl := crr.Spec.TTLSecondsAfterFinished; ttl != nil && crr.Status.CompletionTime != nil {
		left := time.Duration(*ttl)*time.Second - s.now.Sub(crr.Status.CompletionTime.Time)
		if left <= 0 {
			d.delete = true
		} else {
			d.lookAgain(left)
		}
	}
}

// planRecreating copies the kubelet's view of new containers and takes the pod out of traffic.
func planRecreating(s *snapshot, d *decision) {
	status := s.crr.Status.DeepCopy()
	if now := newContainers(s.crr, s.pod); len(now) > 0 {
		status.ContainerStatusSnapshot = now
	}
	strategy := s.crr.Spec.Strategy
	if strategy != nil && strategy.UnreadyGracePeriodSeconds != nil &&
		!meta.IsStatusConditionTrue(status.Conditions, appsv1beta1.ContainerRecreateRequestPreRecreateGrace) {
		if pod.HasGate(s.pod, pub.KruisePodReady) {
			d.addFinalizer, d.block = true, true
		}
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: appsv1beta1.ContainerRecreateRequestPreRecreateGrace, Status: metav1.ConditionTrue,
			Reason:             appsv1beta1.ContainerRecreateRequestPreRecreateGrace,
			Message:            "Pod has been forced to not-ready for unreadyGracePeriodSeconds drain",
			LastTransitionTime: metav1.NewTime(s.now),
		})
	}
	if !equality.Semantic.DeepEqual(status, &s.crr.Status) {
		d.status = status
	}
}

// newContainers is the kubelet's view of those containers that are not the ones seen at creation. They are told by their
// ID and restart count and not by their start, which is of another clock (W2).
func newContainers(crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod) []appsv1beta1.ContainerRecreateRequestContainerStatus {
	statuses := map[string]*corev1.ContainerStatus{}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			statuses[list[i].Name] = &list[i]
		}
	}
	var out []appsv1beta1.ContainerRecreateRequestContainerStatus
	for i := range crr.Spec.Containers {
		c := &crr.Spec.Containers[i]
		st := statuses[c.Name]
		if st == nil || st.State.Running == nil || st.ContainerID == "" {
			continue
		}
		if old := c.StatusContext; old != nil && old.ContainerID == st.ContainerID && st.RestartCount <= old.RestartCount {
			continue
		}
		out = append(out, appsv1beta1.ContainerRecreateRequestContainerStatus{
			Name: c.Name, Ready: st.Ready, RestartCount: st.RestartCount, ContainerID: st.ContainerID,
		})
	}
	return out
}

// key is the request's name among those who hold a pod not ready.
func key(crr *appsv1beta1.ContainerRecreateRequest) pod.Key {
	return pod.Key{UserAgent: pub.ContainerRecreateRequestUserAgent, Key: types.NamespacedName{Namespace: crr.Namespace, Name: crr.Name}.String()}
}

func (d *decision) lookAgain(after time.Duration) {
	if d.requeueAfter == 0 || after < d.requeueAfter {
		d.requeueAfter = after
	}
}
