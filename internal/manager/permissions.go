// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var missingPermission = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "kruise_missing_permission_total", Help: "Requests of the manager that were forbidden because it lacks a right. What needs the right does not work.",
}, []string{"group", "resource", "verb"})

// permissions notices, below all clients, which rights this process lacks (security 5.1). What needs such a right fails
// by itself; here is where an operator learns why.
type permissions struct {
	log logr.Logger
	now func() time.Time

	mu       sync.Mutex
	told     map[string]time.Time
	reader   client.Reader
	mapper   meta.RESTMapper
	recorder events.EventRecorder
}

// tellEvery is how often the same missing right is logged, and reported at the same object.
const tellEvery = time.Minute

func newPermissions(log logr.Logger) *permissions {
	return &permissions{log: log.WithName("permissions"), now: time.Now, told: map[string]time.Time{}}
}

// report makes events possible, too.
func (p *permissions) report(reader client.Reader, mapper meta.RESTMapper, recorder events.EventRecorder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reader, p.mapper, p.recorder = reader, mapper, recorder
}

// wrap watches the answers of a transport.
func (p *permissions) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper{next, func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil && resp.StatusCode == http.StatusForbidden {
			p.forbidden(r, resp)
		}
		return resp, err
	}}
}

// refusal is how the apiserver's authorizer puts it, in JSON and in protobuf. Admission and quota say something else.
var refusal = regexp.MustCompile(`cannot (\w+) resource \\?"([^"\\]+)\\?" in API group \\?"([^"\\]*)`)

func (p *permissions) forbidden(r *http.Request, resp *http.Response) {
	head, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	if err != nil {
		return // whoever reads on gets the error
	}
	m := refusal.FindSubmatch(head)
	if m == nil {
		return
	}
	verb, resource, group := string(m[1]), string(m[2]), string(m[3])
	missingPermission.WithLabelValues(group, resource, verb).Inc()
	if p.first(verb + " " + resource + " " + group) {
		p.log.Info("A right is missing; what needs it does not work", "verb", verb, "group", group, "resource", resource, "path", r.URL.Path)
	}
	if obj, ok := named(r.URL.Path); ok && p.first(verb+" "+r.URL.Path) {
		go p.event(obj, verb, resource, group)
	}
}

// first tells whether the same was not told within the last minute.
func (p *permissions) first(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if t, ok := p.told[what]; ok && now.Sub(t) < tellEvery {
		return false
	}
	for k, t := range p.told {
		if now.Sub(t) >= tellEvery {
			delete(p.told, k)
		}
	}
	p.told[what] = now
	return true
}

// target is the object in the path of a request.
type target struct {
	gvr             schema.GroupVersionResource
	namespace, name string
}

// named reads /api/v1/namespaces/NS/RESOURCE/NAME, /apis/GROUP/VERSION/RESOURCE/NAME and what lies between. Collections
// have no name.
func named(path string) (target, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var t target
	switch {
	case len(parts) > 2 && parts[0] == "api":
		t.gvr.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		t.gvr.Group, t.gvr.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return t, false
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		t.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) < 2 {
		return t, false
	}
	t.gvr.Resource, t.name = parts[0], parts[1]
	return t, true
}

// event tells it at the object, which is read for its uid: without it the event would not be found.
func (p *permissions) event(t target, verb, resource, group string) {
	p.mu.Lock()
	reader, mapper, recorder := p.reader, p.mapper, p.recorder
	p.mu.Unlock()
	if recorder == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	gvk, err := mapper.KindFor(t.gvr)
	if err != nil {
		return
	}
	obj := &metav1.PartialObjectMetadata{}
	obj.SetGroupVersionKind(gvk)
	if err := reader.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: t.name}, obj); err != nil {
		return // it is gone, or that right is missing, too
	}
	obj.SetGroupVersionKind(gvk)
	name := resource
	if group != "" {
		name += "." + group
	}
	recorder.Eventf(obj, nil, corev1.EventTypeWarning, "MissingPermission", "MissingPermission",
		"kruise-manager may not %s %s: the right is missing in its roles", verb, name)
}
