// SPDX-License-Identifier: Apache-2.0

// Package noderestriction keeps the writes of a node's agent to objects of its own node (security 5.2), for apiservers that
// have no ValidatingAdmissionPolicy and no node name in tokens (before 1.30). It has the rules of the policy
// kruise-daemon-node-restriction in config/rbac/daemon.yaml, by which newer ones do the same without us.
package noderestriction

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Path is where the webhook is served.
const Path = "/validate-daemon-request"

// policy names the rules in refusals, as the ValidatingAdmissionPolicy does.
const policy = "kruise-daemon-node-restriction: "

// rememberFor is how long it is not asked again which node a pod is on, which never changes; rememberMax bounds how many.
const (
	rememberFor = 10 * time.Minute
	rememberMax = 10_000
)

// Handler refuses what an agent may not write. Requests of others pass.
type Handler struct {
	// Reader reads pods from the apiserver.
	Reader client.Reader
	// Namespace and Account are those of the agents.
	Namespace, Account string

	mu    sync.Mutex
	nodes map[types.UID]place
}

type place struct {
	node  string
	until time.Time
}

// Handle implements admission.Handler.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.UserInfo.Username != "system:serviceaccount:"+h.Namespace+":"+h.Account {
		return admission.Allowed("")
	}
	node, err := h.nodeOf(ctx, &req)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("%sfinding the node of the agent: %w", policy, err))
	}
	if node == "" {
		return admission.Denied(policy + "kruise-daemon token is not bound to a node")
	}
	problem, err := check(&req.AdmissionRequest, node)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("%s%w", policy, err))
	}
	if problem != "" {
		return admission.Denied(policy + "kruise-daemon may only " + problem)
	}
	return admission.Allowed("")
}

// nodeOf is the node that a token is bound to: by its own word, or that of the pod it is bound to; "" if there is none. The
// apiserver has checked both, and that the pod lives.
func (h *Handler) nodeOf(ctx context.Context, req *admission.Request) (string, error) {
	extra := func(key string) string {
		if v := req.UserInfo.Extra["authentication.kubernetes.io/"+key]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	if node := extra("node-name"); node != "" {
		return node, nil
	}
	name, uid := extra("pod-name"), types.UID(extra("pod-uid"))
	if name == "" || uid == "" {
		return "", nil
	}
	now := time.Now()
	h.mu.Lock()
	known, ok := h.nodes[uid]
	h.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.node, nil
	}
	p := &corev1.Pod{}
	if err := h.Reader.Get(ctx, types.NamespacedName{Namespace: h.Namespace, Name: name}, p); err != nil {
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "", err
	}
	if p.UID != uid || p.Spec.NodeName == "" {
		return "", nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nodes == nil || len(h.nodes) >= rememberMax {
		h.nodes = map[types.UID]place{}
	}
	h.nodes[uid] = place{p.Spec.NodeName, now.Add(rememberFor)}
	return p.Spec.NodeName, nil
}

// check returns what the agent of a node may only do instead, "" if it may do this.
func check(req *admissionv1.AdmissionRequest, node string) (string, error) {
	target := req.Resource.Resource + "/" + req.SubResource
	if req.Operation == admissionv1.Delete {
		target = ""
	}
	switch target {
	case "nodeimages/status", "nodepodprobes/status":
		if req.Name != node {
			return "write the NodeImage and the NodePodProbe of its own node", nil
		}
	case "containerrecreaterequests/status":
		var old metav1.PartialObjectMetadata
		if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
			return "", err
		}
		if old.Labels[appsv1beta1.ContainerRecreateRequestNodeNameKey] != node {
			return "write ContainerRecreateRequests of its own node", nil
		}
	case "pods/status":
		return checkPod(req, node)
	case "events/":
		return checkEvent(req.Object.Raw, node)
	default:
		return "write the status of NodeImages, NodePodProbes, ContainerRecreateRequests and pods, and events", nil
	}
	return "", nil
}

// podObject is a pod whose status is taken as it is: fields of a later version count, too.
type podObject struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status any `json:"status"`
}

func checkPod(req *admissionv1.AdmissionRequest, node string) (string, error) {
	var now, old podObject
	if err := json.Unmarshal(req.Object.Raw, &now); err != nil {
		return "", err
	}
	if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
		return "", err
	}
	if old.Spec.NodeName != node {
		return "write pods of its own node", nil
	}
	a, b := &now.Metadata, &old.Metadata
	for _, m := range []*metav1.ObjectMeta{a, b} {
		m.Annotations = maps.Clone(m.Annotations)
		delete(m.Annotations, pub.RuntimeContainersMetaKey)
	}
	same := reflect.DeepEqual(now.Status, old.Status) && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		equal(a.Finalizers, b.Finalizers) && equal(a.OwnerReferences, b.OwnerReferences)
	if !same {
		return "change the annotation " + pub.RuntimeContainersMetaKey + " of a pod", nil
	}
	return "", nil
}

// equal takes no list for an empty one.
func equal[T any](a, b []T) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// checkEvent reads events of both groups.
func checkEvent(raw []byte, node string) (string, error) {
	type source struct {
		Host string `json:"host"`
	}
	var e struct {
		Source              source `json:"source"`
		DeprecatedSource    source `json:"deprecatedSource"`
		ReportingInstance   string `json:"reportingInstance"`
		ReportingController string `json:"reportingController"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return "", err
	}
	if e.Source.Host == node || e.ReportingInstance == node || e.ReportingController != "" && e.DeprecatedSource.Host == node {
		return "", nil
	}
	return "report events of its own node", nil
}
