// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Request is what faults decide by.
type Request struct {
	// Verb is get, list, watch, create, update, patch, delete or deletecollection.
	Verb string
	// Resource is the plural with a subresource behind a slash, for example "pods/status".
	Resource  string
	Namespace string
	// Name is empty for lists and creates.
	Name string
	// Agent is the user agent, for example "kruise-manager/cloneset-controller".
	Agent string

	initial bool // a watch that begins with what is there
}

// IsWrite reports whether the request wants to change something.
func (r *Request) IsWrite() bool {
	switch r.Verb {
	case "get", "list", "watch":
		return false
	}
	return true
}

// String renders a request as "patch pods/status ns/name".
func (r *Request) String() string {
	return strings.TrimSpace(r.Verb + " " + r.Resource + " " + strings.Trim(r.Namespace+"/"+r.Name, "/"))
}

// parse reads what a request is about from its method and path. What is about no object has no Resource.
func parse(req *http.Request) *Request {
	r := &Request{Agent: req.UserAgent(), Verb: map[string]string{
		http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[req.Method]}
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		parts = parts[3:]
	default:
		return r
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		r.Namespace, parts = parts[1], parts[2:]
	}
	r.Resource = parts[0]
	if len(parts) > 1 {
		r.Name = parts[1]
	}
	if len(parts) > 2 {
		r.Resource += "/" + strings.Join(parts[2:], "/")
	}
	if w := req.URL.Query().Get("watch"); w == "true" || w == "1" {
		r.Verb = "watch"
		r.initial = req.URL.Query().Get("sendInitialEvents") == "true"
	} else if r.Name == "" && r.Verb == "get" {
		r.Verb = "list"
	} else if r.Name == "" && r.Verb == "delete" {
		r.Verb = "deletecollection"
	}
	return r
}

// writeStatus answers with an error as the apiserver renders it.
func writeStatus(w http.ResponseWriter, v Verdict) {
	w.Header().Set("Content-Type", "application/json")
	if v.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(v.RetryAfter/time.Second)))
	}
	w.WriteHeader(v.Code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: int32(v.Code), Reason: v.Reason, Message: "injected by a test: " + string(v.Reason),
	})
}
