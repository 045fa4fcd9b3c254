// SPDX-License-Identifier: Apache-2.0

// Package delegation asks whether a user who writes an object of ours could do with rights of the core API what that
// object will make us do on the user's behalf (security 5.10): otherwise a right on a Kruise kind would be worth more than
// the administrator who gave it may know.
package delegation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Modes of the check: not at all, admission warnings, refusals.
const (
	Off     = "Off"
	Warn    = "Warn"
	Enforce = "Enforce"
)

var denied = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "kruise_delegated_capability_denied_total",
	Help: "Writes of objects by users who lack the rights that the object would exercise; with --delegated-capability-check=Enforce they were refused.",
}, []string{"kind"})

func init() { metrics.Registry.MustRegister(denied) }

// rememberFor is how long an answer of the apiserver is good for.
const rememberFor = 10 * time.Second

// rememberMax bounds what is remembered.
const rememberMax = 10_000

// Checker wraps admission handlers. The zero value and nil check nothing.
type Checker struct {
	Mode string
	// Asker creates SubjectAccessReviews.
	Asker client.Client
	// Exempt are users that act for others: the manager itself, and the cluster's collectors of garbage.
	Exempt []string

	mu      sync.Mutex
	answers map[string]answer
}

type answer struct {
	allowed bool
	until   time.Time
}

// New returns a checker for a manager in a namespace.
func New(mode, ownNamespace string, asker client.Client) *Checker {
	return &Checker{Mode: mode, Asker: asker, Exempt: []string{
		"system:serviceaccount:" + ownNamespace + ":kruise-manager",
		"system:serviceaccount:kube-system:generic-garbage-collector",
		"system:serviceaccount:kube-system:namespace-controller",
	}}
}

// Wrap checks what the handler admits.
func (c *Checker) Wrap(h admission.Handler) admission.Handler {
	if c == nil || c.Mode == "" || c.Mode == Off {
		return h
	}
	return admission.HandlerFunc(func(ctx context.Context, req admission.Request) admission.Response {
		resp := h.Handle(ctx, req)
		if !resp.Allowed {
			return resp
		}
		missing, err := c.missing(ctx, req)
		switch {
		case err != nil && c.Mode == Enforce:
			return admission.Errored(http.StatusInternalServerError, fmt.Errorf("finding out what user %s may do: %w", req.UserInfo.Username, err))
		case err != nil:
			log.FromContext(ctx).V(4).Info("Cannot find out what a user may do", "user", req.UserInfo.Username, "error", err.Error())
		case missing != "":
			denied.WithLabelValues(req.Kind.Kind).Inc()
			if c.Mode == Enforce {
				return admission.Denied(missing)
			}
			resp.Warnings = append(resp.Warnings, missing)
		}
		return resp
	})
}

// missing returns what the user lacks, empty if nothing.
func (c *Checker) missing(ctx context.Context, req admission.Request) (string, error) {
	if slices.Contains(c.Exempt, req.UserInfo.Username) {
		return "", nil
	}
	for _, alternatives := range needed(req.AdmissionRequest) {
		ok := false
		for _, a := range alternatives {
			allowed, err := c.may(ctx, req.AdmissionRequest, a)
			if err != nil {
				return "", err
			}
			if ok = ok || allowed; ok {
				break
			}
		}
		if !ok {
			a := alternatives[0]
			what := a.Resource
			if a.Subresource != "" {
				what += "/" + a.Subresource
			}
			if a.Name != "" {
				what += "/" + a.Name
			}
			if a.Namespace == "" {
				what += " in all namespaces"
			}
			return fmt.Sprintf("user %s lacks %s %s that this %s would exercise", req.UserInfo.Username, a.Verb, what, req.Kind.Kind), nil
		}
	}
	return "", nil
}

// needed lists the rights that an object exercises; of each list one is enough. It is empty where an update leaves the
// part alone that matters.
func needed(req admissionv1.AdmissionRequest) [][]authorizationv1.ResourceAttributes {
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update || req.SubResource != "" {
		return nil
	}
	now, before := specOf(req.Object.Raw), specOf(req.OldObject.Raw)
	switch req.Kind.Kind {
	case "ContainerRecreateRequest":
		if same(now, before) {
			return nil
		}
		var pod string
		_ = json.Unmarshal(now["podName"], &pod) // left to validation
		return [][]authorizationv1.ResourceAttributes{{
			{Namespace: req.Namespace, Verb: "delete", Resource: "pods", Name: pod},
			{Namespace: req.Namespace, Verb: "create", Resource: "pods", Subresource: "eviction", Name: pod},
		}}
	case "ImagePullJob", "ImageListPullJob":
		if bytes.Equal(now["pullSecrets"], before["pullSecrets"]) {
			return nil
		}
		var names []string
		_ = json.Unmarshal(now["pullSecrets"], &names)
		var out [][]authorizationv1.ResourceAttributes
		for _, name := range names {
			out = append(out, []authorizationv1.ResourceAttributes{{Namespace: req.Namespace, Verb: "get", Resource: "secrets", Name: name}})
		}
		return out
	case "NodeImage":
		if same(now, before) {
			return nil
		}
		return [][]authorizationv1.ResourceAttributes{{{Verb: "create", Resource: "pods"}}}
	}
	return nil
}

func specOf(raw []byte) map[string]json.RawMessage {
	var obj struct {
		Spec map[string]json.RawMessage `json:"spec"`
	}
	_ = json.Unmarshal(raw, &obj) // what is no object is refused elsewhere
	return obj.Spec
}

// same compares specs that the apiserver has put into one form.
func same(a, b map[string]json.RawMessage) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || !bytes.Equal(v, w) {
			return false
		}
	}
	return true
}

// may asks the apiserver as the user of the request.
func (c *Checker) may(ctx context.Context, req admissionv1.AdmissionRequest, a authorizationv1.ResourceAttributes) (bool, error) {
	u := req.UserInfo
	key := strings.Join([]string{u.Username, u.UID, strings.Join(u.Groups, "\x01"), a.Namespace, a.Verb, a.Resource, a.Subresource, a.Name}, "\x00")
	c.mu.Lock()
	known, ok := c.answers[key]
	c.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.allowed, nil
	}
	extra := make(map[string]authorizationv1.ExtraValue, len(u.Extra))
	for k, v := range u.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.Username, UID: u.UID, Groups: u.Groups, Extra: extra, ResourceAttributes: &a,
	}}
	if err := c.Asker.Create(ctx, review); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil || len(c.answers) >= rememberMax {
		c.answers = map[string]answer{}
	}
	c.answers[key] = answer{review.Status.Allowed, time.Now().Add(rememberFor)}
	return review.Status.Allowed, nil
}
