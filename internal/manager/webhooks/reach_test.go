// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionapi "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/podadmission/concern"
)

// selecting has CloneSets select pods of their namespace.
var selecting = Source{Kind: appsv1beta1.GroupVersion.WithKind("CloneSet"), Pods: func(o client.Object) concern.Pods {
	return concern.Pods{concern.Create: {{Namespaces: []string{o.GetNamespace()}, Selector: o.(*appsv1beta1.CloneSet).Spec.Selector}}}
}}

func cloneSet(ns string) *appsv1beta1.CloneSet {
	return &appsv1beta1.CloneSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cs"},
		Spec:       appsv1beta1.CloneSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}}
}

// installed is an injector for the configurations of a default installation and objs.
func installed(t *testing.T, hook interceptor.Funcs, objs ...client.Object) *Injector {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{admissionv1.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	at := Endpoint{Host: "h", Port: 1}
	m, v := Configurations(at, gates.New(), "kruise-system")
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(m, v).WithObjects(objs...).WithInterceptorFuncs(hook).Build()
	return &Injector{Reader: c, Writer: c, Endpoint: at, Gates: gates.New(), OwnNamespace: "kruise-system", Log: logr.Discard(),
		Sources: []Source{selecting}, Served: func(schema.GroupVersionKind) bool { return true },
		ReachSettle: time.Millisecond, NarrowDelay: time.Minute, Leads: func() bool { return true }}
}

func (i *Injector) live(t *testing.T) (c concern.Condition, announced bool) {
	t.Helper()
	var m admissionv1.MutatingWebhookConfiguration
	if err := i.Writer.Get(t.Context(), client.ObjectKey{Name: MutatingConfiguration}, &m); err != nil {
		t.Fatal(err)
	}
	_, announced = m.Annotations[narrowAfter]
	return i.liveCondition(mutatingViews(m.Webhooks)[0]), announced
}

// publish keeps configurations in step; without CRDs to convert the fake has no more to say.
func (i *Injector) publish(t *testing.T) {
	t.Helper()
	var m admissionv1.MutatingWebhookConfiguration
	if err := i.Writer.Get(t.Context(), client.ObjectKey{Name: MutatingConfiguration}, &m); err != nil {
		t.Fatal(err)
	}
	if _, err := i.configuration(t.Context(), &m, mutatingViews(m.Webhooks), true, []byte("ca")); err != nil {
		t.Fatal(err)
	}
}

func TestWiden(t *testing.T) {
	need := concern.For(selecting.Pods(cloneSet("web")), concern.Create)
	conflicts := 3
	i := installed(t, interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, o ...client.PatchOption) error {
		if conflicts--; conflicts >= 0 {
			return apierrors.NewConflict(schema.GroupResource{}, obj.GetName(), fmt.Errorf("it changed"))
		}
		return c.Patch(ctx, obj, p, o...)
	}})
	before, _ := i.live(t)
	if err := i.Widen(t.Context(), selecting.Pods(cloneSet("web"))); err != nil {
		t.Fatal(err)
	}
	if c, _ := i.live(t); !c.Same(before.Union(need)) {
		t.Errorf("widened to %v", c)
	}
	conflicts = 1000
	if err := i.Widen(t.Context(), selecting.Pods(cloneSet("web"))); err != nil {
		t.Errorf("covered already: %v", err)
	}
	if err := i.Widen(t.Context(), selecting.Pods(cloneSet("db"))); err == nil || !strings.Contains(err.Error(), "changes all the time") {
		t.Errorf("conflicts without end: %v", err)
	}
	i.ReadOnly = true
	if err := i.Widen(t.Context(), selecting.Pods(cloneSet("db"))); err == nil || !strings.Contains(err.Error(), "external certificates") {
		t.Errorf("with external certificates: %v", err)
	}
	i.ReadOnly, i.ReachSettle = false, time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	i.sights = sights{}
	if err := i.Widen(ctx, selecting.Pods(cloneSet("web"))); err == nil {
		t.Error("somebody else may have widened it a moment ago: not waited")
	}
}

// TestNarrow: an announcement comes first; an admission takes it away; objects that came meanwhile count.
func TestNarrow(t *testing.T) {
	cs := cloneSet("web")
	i := installed(t, interceptor.Funcs{}, cs)
	i.publish(t)
	static, _ := i.effectiveStatic()
	if c, _ := i.live(t); !c.Covers(concern.For(selecting.Pods(cs), concern.Create)) {
		t.Fatalf("an object that was there is not covered: %v", c)
	}
	if err := i.Writer.Delete(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	i.publish(t)
	if c, announced := i.live(t); !announced || c.Same(static) {
		t.Errorf("narrowed at once, or not announced: %v", c)
	}
	i.publish(t)
	if c, announced := i.live(t); !announced || c.Same(static) {
		t.Errorf("narrowed before its time: %v", c)
	}
	if err := i.Widen(t.Context(), selecting.Pods(cs)); err != nil {
		t.Fatal(err)
	}
	if _, announced := i.live(t); announced {
		t.Error("an admission left the announcement")
	}
	i.NarrowDelay = time.Nanosecond
	i.publish(t) // announces
	cs.ResourceVersion = ""
	if err := i.Writer.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	i.publish(t)
	if c, announced := i.live(t); announced || c.Same(static) {
		t.Errorf("an object that came meanwhile: announced %t, %v", announced, c)
	}
	if err := i.Writer.Delete(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	i.publish(t)
	i.publish(t)
	if c, announced := i.live(t); announced || !c.Same(static) {
		t.Errorf("not narrowed: announced %t, %v", announced, c)
	}
}

func (i *Injector) effectiveStatic() (concern.Condition, string) {
	e := i.podEntries(true)["mpod.kb.io"]
	expression, c := i.effective(Concerns(i.Gates), e)
	return c, expression
}

// TestArrival: a replica that doesn't lead widens for its own gates, and gives up against a leader that thinks otherwise.
func TestArrival(t *testing.T) {
	i := installed(t, interceptor.Funcs{})
	i.Leads = func() bool { return false }
	var err error
	if i.Gates, err = gates.FromMap(map[string]bool{"KruisePodReadinessGate": true}); err != nil {
		t.Fatal(err)
	}
	leader := installed(t, interceptor.Funcs{})
	leader.Writer, leader.Reader, leader.Sources = i.Writer, i.Reader, nil
	want, _ := i.effectiveStatic()
	for n := range 5 {
		i.publish(t)
		c, _ := i.live(t)
		if wide := c.Covers(want); wide != (n < arrivals) {
			t.Errorf("attempt %d: covered %t", n, wide)
		}
		leader.publish(t)
	}
}

func TestWidening(t *testing.T) {
	i := installed(t, interceptor.Funcs{})
	allow := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") })
	deny := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Denied("no") })
	raw := func(ns string) runtime.RawExtension {
		b, err := json.Marshal(cloneSet(ns))
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: b}
	}
	for _, tc := range []struct {
		name    string
		handler admission.Handler
		req     admissionapi.AdmissionRequest
		widens  bool
	}{
		{"refused", deny, admissionapi.AdmissionRequest{Operation: admissionapi.Create, Object: raw("a")}, false},
		{"dry run", allow, admissionapi.AdmissionRequest{Operation: admissionapi.Create, Object: raw("b"), DryRun: new(true)}, false},
		{"deletion", allow, admissionapi.AdmissionRequest{Operation: admissionapi.Delete, OldObject: raw("c")}, false},
		{"unchanged", allow, admissionapi.AdmissionRequest{Operation: admissionapi.Update, Object: raw("d"), OldObject: raw("d")}, false},
		{"created", allow, admissionapi.AdmissionRequest{Operation: admissionapi.Create, Object: raw("e")}, true},
		{"changed", allow, admissionapi.AdmissionRequest{Operation: admissionapi.Update, Object: raw("f"), OldObject: raw("e")}, true},
		{"garbage", allow, admissionapi.AdmissionRequest{Operation: admissionapi.Create, Object: runtime.RawExtension{Raw: []byte("{")}}, false},
	} {
		before, _ := i.live(t)
		resp := i.Widening(tc.handler, selecting).Handle(t.Context(), admission.Request{AdmissionRequest: tc.req})
		if want := tc.name != "refused" && tc.name != "garbage"; resp.Allowed != want {
			t.Errorf("%s: %v", tc.name, resp.Result)
		}
		if after, _ := i.live(t); after.Same(before) == tc.widens {
			t.Errorf("%s: widened %t", tc.name, !tc.widens)
		}
	}
}
