// SPDX-License-Identifier: Apache-2.0

// Package admission fills in and checks ContainerRecreateRequests of both versions (container-restart 5.1). There is one
// mutating webhook and no validating one, so it refuses what is invalid, too.
package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

const (
	// minActiveDeadline is the least activeDeadlineSeconds, in seconds.
	minActiveDeadline = 3
	// unreadyAcquired is the v1alpha1 annotation that may not change once set.
	unreadyAcquired = "crr.apps.kruise.io/unready-acquired"
	// virtualKubelet is the value of the node label "type" that a CRR takes over.
	virtualKubelet = "virtual-kubelet"
)

// Handler admits ContainerRecreateRequests at /mutate-apps-kruise-io-containerrecreaterequest.
type Handler struct {
	// Daemon is the gate KruiseDaemon; without it none can be created.
	Daemon bool
	// Reader reads pods and nodes; from the apiserver, because a cache may not know a new pod yet.
	Reader client.Reader
}

// Handle implements admission.Handler. Defaults are added to the JSON as it was sent.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" {
		return admission.Allowed("")
	}
	if v := req.Kind.Version; v != "v1alpha1" && v != "v1beta1" {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("unknown version %q of ContainerRecreateRequest", v))
	}
	crr, err := decode(req.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the ContainerRecreateRequest: %w", err))
	}
	switch req.Operation {
	case admissionv1.Update:
		return update(crr, &req)
	case admissionv1.Create:
		if !h.Daemon {
			return admission.Denied("feature-gate KruiseDaemon is not enabled")
		}
		return h.create(ctx, crr, &req)
	}
	return admission.Allowed("")
}

func decode(raw []byte) (*appsv1beta1.ContainerRecreateRequest, error) {
	crr := &appsv1beta1.ContainerRecreateRequest{}
	if len(raw) == 0 {
		return nil, errors.New("no object")
	}
	return crr, json.Unmarshal(raw, crr)
}

// update allows changes of metadata only, and none of the labels that route the request. What is being deleted passes:
// it must be able to lose its finalizer (W8).
func update(crr *appsv1beta1.ContainerRecreateRequest, req *admission.Request) admission.Response {
	if crr.DeletionTimestamp != nil {
		return admission.Allowed("")
	}
	old, err := decode(req.OldObject.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the stored ContainerRecreateRequest: %w", err))
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

func (h *Handler) create(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, req *admission.Request) admission.Response {
	if crr.Spec.Strategy == nil {
		crr.Spec.Strategy = &appsv1beta1.ContainerRecreateRequestStrategy{}
	}
	if err := checkSpec(&crr.Spec); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	p, node, err := h.find(ctx, req.Namespace, crr.Spec.PodName)
	if err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		return admission.Errored(http.StatusBadRequest, err)
	}
	if err := fill(crr, p, node); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	return patch(crr, req)
}

// checkSpec applies the rules that need no other object, and defaults the failure policy.
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
		if c.PreStop != nil || len(c.Ports) > 0 || c.StatusContext != nil {
			return fmt.Errorf("spec.containers: preStop, ports and statusContext of container %q are ready-only fields", c.Name)
		}
	}
	if d := spec.ActiveDeadlineSeconds; d != nil && *d < minActiveDeadline {
		return fmt.Errorf("spec.activeDeadlineSeconds must be at least %d", minActiveDeadline)
	}
	s := spec.Strategy
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
	case "":
		s.FailurePolicy = appsv1beta1.ContainerRecreateRequestFailurePolicyFail
	case appsv1beta1.ContainerRecreateRequestFailurePolicyFail, appsv1beta1.ContainerRecreateRequestFailurePolicyIgnore:
	default:
		return fmt.Errorf("spec.strategy.failurePolicy must be Fail or Ignore, not %q", s.FailurePolicy)
	}
	return nil
}

// find reads pod and node and checks that containers can be restarted there.
func (h *Handler) find(ctx context.Context, namespace, name string) (*corev1.Pod, *corev1.Node, error) {
	p, node := &corev1.Pod{}, &corev1.Node{}
	err := h.Reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, p)
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("no pod %s in namespace %s", name, namespace)
	}
	if err != nil {
		return nil, nil, err
	}
	if !pod.IsActive(p) && pod.Condition(p, "SidecarTerminated") == nil {
		return nil, nil, fmt.Errorf("pod %s is not active: it is over or being deleted", name)
	}
	if p.Spec.NodeName == "" {
		return nil, nil, fmt.Errorf("not allowed to recreate containers of pending Pod %s", name)
	}
	err = h.Reader.Get(ctx, types.NamespacedName{Name: p.Spec.NodeName}, node)
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("node %s of pod %s does not exist", p.Spec.NodeName, name)
	}
	return p, node, err
}

// fill takes labels and the snapshot of the containers from the pod.
func fill(crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod, node *corev1.Node) error {
	if crr.Labels == nil {
		crr.Labels = map[string]string{}
	}
	crr.Labels[appsv1beta1.ContainerRecreateRequestActiveKey] = "true"
	crr.Labels[appsv1beta1.ContainerRecreateRequestNodeNameKey] = p.Spec.NodeName
	crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey] = string(p.UID)
	if node.Labels["type"] == virtualKubelet {
		crr.Labels["type"] = virtualKubelet
	}
	if crr.Spec.Strategy.TerminationGracePeriodSeconds == nil {
		crr.Spec.Strategy.TerminationGracePeriodSeconds = p.Spec.TerminationGracePeriodSeconds
	}
	for i := range crr.Spec.Containers {
		c := &crr.Spec.Containers[i]
		spec, status := find(p, c.Name)
		switch {
		case spec == nil:
			return fmt.Errorf("container %q is not in the spec of pod %s", c.Name, p.Name)
		case status == nil:
			return fmt.Errorf("container %q has no status in pod %s yet", c.Name, p.Name)
		case status.ContainerID == "":
			reason := "it was never started"
			if w := status.State.Waiting; w != nil && w.Reason != "" {
				reason = "it waits: " + w.Reason
			}
			return fmt.Errorf("container %q of pod %s has no containerID: %s", c.Name, p.Name, reason)
		}
		if spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil {
			c.PreStop = spec.Lifecycle.PreStop.DeepCopy()
			if c.PreStop.HTTPGet != nil {
				c.Ports = spec.Ports
			}
		}
		c.StatusContext = &appsv1beta1.ContainerRecreateRequestContainerContext{
			ContainerID: status.ContainerID, RestartCount: status.RestartCount,
		}
	}
	return nil
}

// find returns spec and status of a container or of a restartable init container (W6).
func find(p *corev1.Pod, name string) (spec *corev1.Container, status *corev1.ContainerStatus) {
	statuses := p.Status.ContainerStatuses
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			spec = &p.Spec.Containers[i]
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			spec, statuses = c, p.Status.InitContainerStatuses
		}
	}
	for i := range statuses {
		if statuses[i].Name == name {
			return spec, &statuses[i]
		}
	}
	return spec, nil
}

// patch answers with the labels and the spec of crr in place of those that were sent.
func patch(crr *appsv1beta1.ContainerRecreateRequest, req *admission.Request) admission.Response {
	var d map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(req.Object.Raw, &d); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	meta, ok := d["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		d["metadata"] = meta
	}
	meta["labels"] = crr.Labels
	d["spec"] = crr.Spec
	out, err := json.Marshal(d)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	if bytes.Equal(out, req.Object.Raw) {
		return admission.Allowed("")
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, out)
}
