// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestDecide(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	base := func(change ...func(*corev1.PodTemplateSpec)) *corev1.PodTemplateSpec {
		tmpl := template(
			container("app", "app:v1", requests("100m", "64Mi"), limits("200m", "128Mi"), func(c *corev1.Container) {
				c.Env = append(c.Env, corev1.EnvVar{Name: "A", Value: "1"}, corev1.EnvVar{Name: "B", Value: "2"})
			}),
			container("side", "side:v1", envFrom("CFG", "metadata.annotations['cfg']"), envFrom("TIER", "metadata.labels['tier']")))
		tmpl.Spec.InitContainers = []corev1.Container{
			container("setup", "setup:v1"),
			container("proxy", "proxy:v1", func(c *corev1.Container) { c.RestartPolicy = &always }),
		}
		tmpl.Spec.Volumes = []corev1.Volume{{Name: "x"}, {Name: "y"}}
		for _, f := range change {
			f(tmpl)
		}
		return tmpl
	}
	gpu := func(n string) func(*corev1.PodTemplateSpec) {
		return func(tmpl *corev1.PodTemplateSpec) {
			tmpl.Spec.Containers[0].Resources.Limits["nvidia.com/gpu"] = resource.MustParse(n)
		}
	}
	type ops = func(*corev1.PodTemplateSpec)
	tests := []struct {
		name     string
		from, to []ops
		o        Options
		path     string // of the refusal; empty = possible
		want     plan
	}{
		{name: "nothing"},
		{name: "image", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Image = "app:v2" }},
			want: plan{images: map[string]string{"app": "app:v2"}}},
		{name: "S_inplace_update_12/env literal", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Env[0].Value = "9" }},
			path: "/spec/template/spec/containers/0/env/0/value"},
		{name: "command", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Command = []string{"x"} }},
			path: "/spec/template/spec/containers/0/command"},
		{name: "env in another order", to: []ops{func(p *corev1.PodTemplateSpec) {
			e := p.Spec.Containers[0].Env
			e[0], e[1] = e[1], e[0]
		}}},
		{name: "env in another order with references",
			from: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Env[1].Value = "$(A)" }},
			to: []ops{func(p *corev1.PodTemplateSpec) {
				e := p.Spec.Containers[0].Env
				e[1].Value = "$(A)"
				e[0], e[1] = e[1], e[0]
			}},
			path: "/spec/template/spec/containers/0/env/0/name"},
		{name: "containers and volumes in another order", to: []ops{func(p *corev1.PodTemplateSpec) {
			c, v := p.Spec.Containers, p.Spec.Volumes
			c[0], c[1], v[0], v[1] = c[1], c[0], v[1], v[0]
			c[1].Image = "app:v2"
		}}, want: plan{images: map[string]string{"app": "app:v2"}}},
		{name: "container added", to: []ops{func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers = append(p.Spec.Containers, container("new", "new:v1"))
		}}, path: "/spec/template/spec/containers"},
		{name: "container renamed", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Name = "other" }},
			path: "/spec/template/spec/containers"},
		{name: "image added", from: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Image = "" }},
			path: "/spec/template/spec/containers/0/image"},
		{name: "init container image", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.InitContainers[0].Image = "setup:v2" }},
			path: "/spec/template/spec/initContainers/0/image"},
		{name: "init container image, opted in", o: Options{InitContainerImages: true},
			to:   []ops{func(p *corev1.PodTemplateSpec) { p.Spec.InitContainers[0].Image = "setup:v2" }},
			want: plan{quietImages: map[string]string{"setup": "setup:v2"}}},
		{name: "restartable init container image", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.InitContainers[1].Image = "proxy:v2" }},
			want: plan{images: map[string]string{"proxy": "proxy:v2"}}},
		{name: "init containers in another order", to: []ops{func(p *corev1.PodTemplateSpec) {
			c := p.Spec.InitContainers
			c[0], c[1] = c[1], c[0]
		}}, path: "/spec/template/spec/initContainers/0/image"},
		{name: "S_inplace_update_10/label", to: []ops{func(p *corev1.PodTemplateSpec) { p.Labels["tier"] = "x" }},
			want: plan{metadataPatch: []byte(`{"metadata":{"labels":{"tier":"x"}}}`)}},
		{name: "S_inplace_update_11/label removed", to: []ops{func(p *corev1.PodTemplateSpec) { p.Labels = nil }},
			want: plan{metadataPatch: []byte(`{"metadata":{"labels":{"app":null}}}`)}},
		{name: "finalizers", from: []ops{func(p *corev1.PodTemplateSpec) { p.Finalizers = []string{"a/b"} }},
			to:   []ops{func(p *corev1.PodTemplateSpec) { p.Finalizers = []string{"c/d"} }},
			want: plan{metadataPatch: []byte(`{"metadata":{"$deleteFromPrimitiveList/finalizers":["a/b"],"finalizers":["c/d"]}}`)}},
		{name: "first annotation, feeding env", o: allOn, to: []ops{func(p *corev1.PodTemplateSpec) {
			p.Annotations = map[string]string{"cfg": "1", "z": "2"}
		}}, want: plan{
			refs:          map[string]refMetadata{"side": {Annotations: map[string]string{"cfg": "1"}}},
			metadataPatch: []byte(`{"metadata":{"annotations":{"z":"2"}}}`),
		}},
		{name: "label feeding env removed", o: allOn,
			from: []ops{func(p *corev1.PodTemplateSpec) { p.Labels["tier"] = "x" }},
			want: plan{refs: map[string]refMetadata{"side": {Labels: map[string]string{"tier": ""}, RemovedLabels: []string{"tier"}}}}},
		{name: "S_inplace_update_15/annotation feeding env, gate off", to: []ops{func(p *corev1.PodTemplateSpec) {
			p.Annotations = map[string]string{"cfg": "1"}
		}}, want: plan{metadataPatch: []byte(`{"metadata":{"annotations":{"cfg":"1"}}}`)}},
		{name: "cpu and memory", o: allOn, to: []ops{func(p *corev1.PodTemplateSpec) {
			r := &p.Spec.Containers[0].Resources
			r.Requests[corev1.ResourceCPU] = resource.MustParse("150m")
			r.Limits[corev1.ResourceMemory] = resource.MustParse("256Mi")
		}}, want: plan{resources: map[string]corev1.ResourceRequirements{"app": {
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("150m")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		}}}},
		{name: "S_inplace_update_23/gate off", to: []ops{func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("150m")
		}}, path: "/spec/template/spec/containers/0/resources/requests/cpu"},
		{name: "S_inplace_update_23/gpu", o: allOn, from: []ops{gpu("1")}, to: []ops{gpu("2")},
			path: "/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu"},
		{name: "request removed", o: allOn, to: []ops{func(p *corev1.PodTemplateSpec) {
			delete(p.Spec.Containers[0].Resources.Requests, corev1.ResourceCPU)
		}}, path: "/spec/template/spec/containers/0/resources/requests/cpu"},
		{name: "S_inplace_update_23/QoS",
			from: []ops{func(p *corev1.PodTemplateSpec) {
				p.Spec.InitContainers, p.Spec.Containers = nil, p.Spec.Containers[:1]
			}},
			to: []ops{func(p *corev1.PodTemplateSpec) {
				p.Spec.InitContainers, p.Spec.Containers = nil, p.Spec.Containers[:1]
				p.Spec.Containers[0].Resources.Requests = p.Spec.Containers[0].Resources.Limits
			}},
			o: allOn, path: "/spec/template/spec/containers"},
		{name: "node selector", to: []ops{func(p *corev1.PodTemplateSpec) { p.Spec.NodeSelector = map[string]string{"a": "b"} }},
			path: "/spec/template/spec/nodeSelector"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			step, err := Decide(revisionOf(t, "web-1", base(tt.from...)), revisionOf(t, "web-2", base(tt.to...)), tt.o)
			if tt.path != "" {
				var refused *NotPossibleError
				if !errors.As(err, &refused) || refused.Path != tt.path || refused.Reason == "" {
					t.Fatalf("error %v, want a refusal of %s", err, tt.path)
				}
				return
			}
			mustT(t, err)
			if diff := cmp.Diff(tt.want, step.plan, cmp.AllowUnexported(plan{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// Documents that mean the same must not differ, however they were written.
func TestDecideIgnoresSpelling(t *testing.T) {
	tests := []struct{ name, old, updated string }{
		{"null and absent", `{"metadata":{"creationTimestamp":null},"spec":{"containers":[{"name":"a","image":"i","resources":{}}]}}`,
			`{"metadata":{},"spec":{"containers":[{"name":"a","image":"i","env":null,"ports":[]}]}}`},
		{"$patch", `{"$patch":"replace","spec":{"containers":[]}}`, `{"spec":{}}`},
		{"quantities", `{"spec":{"containers":[{"name":"a","image":"i","resources":{"requests":{"cpu":"1000m","memory":"1Gi"}}}]}}`,
			`{"spec":{"containers":[{"name":"a","image":"i","resources":{"requests":{"cpu":1,"memory":"1024Mi"}}}]}}`},
		{"numbers", `{"spec":{"terminationGracePeriodSeconds":30}}`, `{"spec":{"terminationGracePeriodSeconds":30}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wrap := func(s string) string { return `{"spec":{"template":` + s + `}}` }
			step, err := Decide(rawRevision("a", wrap(tt.old)), rawRevision("b", wrap(tt.updated)), Options{})
			mustT(t, err)
			if step.Restarts() || len(step.plan.metadataPatch) > 0 {
				t.Errorf("plan %+v, want none", step.plan)
			}
		})
	}
}

func TestDecideRefusesTheUnknown(t *testing.T) {
	wrap := func(s string) string { return `{"spec":{"template":` + s + `}}` }
	selector := func(s string) string {
		return wrap(`{"spec":{"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"k"` + s + `}]}}}}`)
	}
	tests := []struct{ name, old, updated, path string }{
		{"field of a later Kubernetes", wrap(`{"spec":{"novelty":1}}`), wrap(`{"spec":{"novelty":2}}`), "/spec/template/spec/novelty"},
		{"empty selector is not none", selector(""), selector(`,"namespaceSelector":{}`),
			"/spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/namespaceSelector"},
		{"other top-level field", `{"spec":{"template":{},"x":1}}`, `{"spec":{"template":{}}}`, "/spec/x"},
		{"no template", `{"spec":{}}`, wrap(`{}`), ""},
		{"no JSON", `{`, wrap(`{}`), ""},
		{"template of another type", wrap(`[]`), wrap(`{}`), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decide(rawRevision("a", tt.old), rawRevision("b", tt.updated), allOn)
			var refused *NotPossibleError
			if !errors.As(err, &refused) || refused.Path != tt.path {
				t.Errorf("error %v, want a refusal of %q", err, tt.path)
			}
		})
	}
	for _, pair := range [][2]string{{"", "b"}, {"a", ""}} {
		old, updated := rawRevision("a", wrap(`{}`)), rawRevision("b", wrap(`{}`))
		if pair[0] == "" {
			old = nil
		}
		if pair[1] == "" {
			updated = nil
		}
		var refused *NotPossibleError
		if _, err := Decide(old, updated, allOn); !errors.As(err, &refused) {
			t.Errorf("missing revision: error %v", err)
		}
	}
}

func TestDecideClaimTemplates(t *testing.T) {
	with := func(image string, hash *string) (r *corev1.PodTemplateSpec, annotations map[string]string) {
		if hash != nil {
			annotations = map[string]string{claimHashKey: *hash}
		}
		return template(container("app", image)), annotations
	}
	a, b, empty := "1", "2", ""
	on := Options{RecreateOnClaimChange: true}
	ignore := Options{RecreateOnClaimChange: true, IgnoreClaimChange: true}
	tests := []struct {
		name     string
		old, new *string
		o        Options
		possible bool
	}{
		{"S_inplace_update_20/differ", &a, &b, on, false},
		{"S_inplace_update_20/in place only", &a, &b, ignore, true},
		{"S_inplace_update_20/gate off", &a, &b, Options{}, true},
		{"same", &a, &a, on, true},
		{"both empty", &empty, &empty, on, true},
		{"one without", nil, &b, on, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t1, a1 := with("app:v1", tt.old)
			t2, a2 := with("app:v2", tt.new)
			r1, r2 := revisionOf(t, "a", t1), revisionOf(t, "b", t2)
			r1.Annotations, r2.Annotations = a1, a2
			if _, err := Decide(r1, r2, tt.o); (err == nil) != tt.possible {
				t.Errorf("error %v, want possible = %v", err, tt.possible)
			}
		})
	}
}

// A revision written with fewer defaults than another is no reason to recreate pods.
func TestDecideFillsDefaults(t *testing.T) {
	o := Options{Default: func(tmpl *corev1.PodTemplateSpec) {
		if tmpl.Spec.RestartPolicy == "" {
			tmpl.Spec.RestartPolicy = corev1.RestartPolicyAlways
		}
		for i := range tmpl.Spec.Containers {
			if c := &tmpl.Spec.Containers[i]; c.ImagePullPolicy == "" {
				c.ImagePullPolicy = corev1.PullIfNotPresent
			}
		}
	}}
	old := `{"spec":{"template":{"spec":{"novelty":1,"containers":[{"name":"a","image":"a:1"}]}}}}`
	updated := `{"spec":{"template":{"spec":{"novelty":1,"restartPolicy":"Always","containers":[{"name":"a","image":"a:2","imagePullPolicy":"IfNotPresent"}]}}}}`
	step, err := Decide(rawRevision("a", old), rawRevision("b", updated), o)
	mustT(t, err)
	if diff := cmp.Diff(map[string]string{"a": "a:2"}, step.plan.images); diff != "" {
		t.Error(diff)
	}
	if _, err := Decide(rawRevision("a", old), rawRevision("b", strings.Replace(updated, `"novelty":1`, `"novelty":2`, 1)), o); err == nil {
		t.Error("an unknown field was lost")
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(`{"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"x","resources":{"limits":{"cpu":1}}}]}}}}`,
		`{"spec":{"template":{"spec":{"containers":[{"name":"a","image":null,"env":[{"name":"x","value":"$(y)"}]}]}}}}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		step, err := Decide(rawRevision("a", a), rawRevision("b", b), allOn)
		if err == nil && !json.Valid([]byte(a)) {
			t.Errorf("%v from %q", step, a)
		}
		if step, err := Decide(rawRevision("a", a), rawRevision("b", a), allOn); err == nil && step.Restarts() {
			t.Errorf("a revision differs from itself: %q", a)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	old := revisionOf(b, "a", template(container("app", "app:v1", requests("1", "1Gi")), container("side", "side:v1")))
	updated := revisionOf(b, "b", template(container("app", "app:v2", requests("1", "1Gi")), container("side", "side:v1")))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decide(old, updated, allOn); err != nil {
			b.Fatal(err)
		}
	}
}
