// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

const (
	// minActiveDeadline is the least activeDeadlineSeconds, in seconds.
	minActiveDeadline = 3
	// unreadyAcquired is the v1alpha1 annotation that may not change once set.
	unreadyAcquired = "crr.apps.kruise.io/unready-acquired"
	// unfilled tells whose work is missing.
	unfilled = "the webhook mcontainerrecreaterequest.kb.io fills it in"
)

// Validator serves /validate-apps-kruise-io-containerrecreaterequest: the request is well-formed, its pod can be restarted
// now, and what an agent will act on is that pod's, also where no webhook of ours has filled it in (platform W15).
type Validator struct {
	// Daemon is the gate KruiseDaemon; without it none can be created.
	Daemon bool
	// Reader reads pods and nodes; from the apiserver, because a cache may not know a new pod yet.
	Reader client.Reader
}

// Handle implements admission.Handler.
func (v *Validator) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" || req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	crr, err := decode(req.Kind.Version, req.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if req.Operation == admissionv1.Update {
		return update(crr, &req)
	}
	if !v.Daemon {
		return admission.Denied("feature-gate KruiseDaemon is not enabled")
	}
	if err := checkSpec(&crr.Spec); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	p, node, err := podAndNode(ctx, v.Reader, req.Namespace, crr.Spec.PodName)
	if err != nil {
		if serverFailed(err) {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		return admission.Errored(http.StatusBadRequest, err)
	}
	if err := checkFilled(crr, p, node); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	return admission.Allowed("")
}

// update allows changes of metadata only, and none of the labels that route the request. What is being deleted passes:
// it must be able to lose its finalizer (W8).
func update(crr *appsv1beta1.ContainerRecreateRequest, req *admission.Request) admission.Response {
	if crr.DeletionTimestamp != nil {
		return admission.Allowed("")
	}
	old, err := decode(req.Kind.Version, req.OldObject.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("what is stored: %w", err))
	}
	if !equality.Semantic.DeepEqual(old.Spec, crr.Spec) {
		return admission.Denied("spec of a ContainerRecreateRequest is immutable")
	}
	for _, key := range []string{appsv1beta1.ContainerRecreateRequestPodUIDKey, appsv1beta1.ContainerRecreateRequestNodeNameKey} {
		if old.Labels[key] != crr.Labels[key] {
			return admission.Denied("label " + key + " is immutable")
		}
	}
	if was := old.Annotations[unreadyAcquired]; req.Kind.Version == "v1alpha1" && was != "" && was != crr.Annotations[unreadyAcquired] {
		return admission.Denied("annotation " + unreadyAcquired + " is immutable once set")
	}
	return admission.Allowed("")
}

// checkSpec applies the rules that need no other object.
func checkSpec(spec *appsv1beta1.ContainerRecreateRequestSpec) error {
	if spec.PodName == "" {
		return errors.New("spec.podName must not be empty")
	}
	if len(spec.Containers) == 0 {
		return errors.New("spec.containers must not be empty")
	}
	seen := map[string]bool{}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if seen[c.Name] {
			return fmt.Errorf("spec.containers: container %q is listed twice", c.Name)
		}
		seen[c.Name] = true
	}
	if d := spec.ActiveDeadlineSeconds; d != nil && *d < minActiveDeadline {
		return fmt.Errorf("spec.activeDeadlineSeconds must be at least %d", minActiveDeadline)
	}
	s := spec.Strategy
	if s == nil {
		return errors.New("spec.strategy is missing: " + unfilled)
	}
	if s.TerminationGracePeriodSeconds != nil && *s.TerminationGracePeriodSeconds < 0 {
		return errors.New("spec.strategy.terminationGracePeriodSeconds must not be negative")
	}
	if s.UnreadyGracePeriodSeconds != nil && *s.UnreadyGracePeriodSeconds < 0 {
		return errors.New("spec.strategy.unreadyGracePeriodSeconds must not be negative")
	}
	if s.MinStartedSeconds < 0 || spec.TTLSecondsAfterFinished != nil && *spec.TTLSecondsAfterFinished < 0 {
		return errors.New("spec: minStartedSeconds and ttlSecondsAfterFinished must not be negative")
	}
	switch s.FailurePolicy {
	case appsv1beta1.ContainerRecreateRequestFailurePolicyFail, appsv1beta1.ContainerRecreateRequestFailurePolicyIgnore:
	default:
		return fmt.Errorf("spec.strategy.failurePolicy must be Fail or Ignore, not %q", s.FailurePolicy)
	}
	return nil
}

// checkFilled compares labels and the snapshot of the containers with the pod. Its containers may have restarted since
// they were filled in.
func checkFilled(crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod, node *corev1.Node) error {
	want := crr.DeepCopy()
	for i := range want.Spec.Containers {
		c := &want.Spec.Containers[i]
		c.PreStop, c.Ports, c.StatusContext = nil, nil, nil
	}
	if err := fill(want, p, node); err != nil {
		return err
	}
	for _, key := range []string{
		appsv1beta1.ContainerRecreateRequestActiveKey, appsv1beta1.ContainerRecreateRequestNodeNameKey, appsv1beta1.ContainerRecreateRequestPodUIDKey, "type",
	} {
		if value := want.Labels[key]; crr.Labels[key] != value {
			return fmt.Errorf("label %s must be %q: %s", key, value, unfilled)
		}
	}
	for i := range crr.Spec.Containers {
		have, pods := &crr.Spec.Containers[i], &want.Spec.Containers[i]
		if have.StatusContext == nil || have.StatusContext.ContainerID == "" {
			return fmt.Errorf("spec.containers: container %q has no statusContext: %s", have.Name, unfilled)
		}
		if !sameHook(have.PreStop, pods.PreStop) || !equality.Semantic.DeepEqual(have.Ports, pods.Ports) {
			return readOnly(have.Name)
		}
	}
	return nil
}

// sameHook compares what an agent would run; newer kinds of hooks may be unknown to an older schema.
func sameHook(a, b *corev1.LifecycleHandler) bool {
	none := &corev1.LifecycleHandler{}
	a, b = cmp.Or(a, none), cmp.Or(b, none)
	return equality.Semantic.DeepEqual(a.Exec, b.Exec) && equality.Semantic.DeepEqual(a.HTTPGet, b.HTTPGet) && equality.Semantic.DeepEqual(a.TCPSocket, b.TCPSocket)
}
