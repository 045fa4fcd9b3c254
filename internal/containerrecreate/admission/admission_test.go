// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func runningPod(edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p-uid"},
		Spec: corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: ptr.To[int64](30), Containers: []corev1.Container{
			{Name: "app", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}}},
			{Name: "waiting"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "app", ContainerID: "containerd://A", RestartCount: 2},
			{Name: "waiting", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}},
	}
	if edit != nil {
		edit(p)
	}
	return p
}

// create sends a request through both webhooks.
func create(t *testing.T, daemon bool, version, spec string, p *corev1.Pod, node *corev1.Node) (admission.Response, *appsv1beta1.ContainerRecreateRequest) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := fake.NewClientBuilder().WithScheme(scheme)
	if p != nil {
		b = b.WithObjects(p)
	}
	if node != nil {
		b = b.WithObjects(node)
	}
	raw := `{"metadata":{"name":"r","namespace":"ns"},"spec":{` + spec + `}}`
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "ns", Name: "r",
		Kind:   metav1.GroupVersionKind{Group: "apps.kruise.io", Version: version, Kind: "ContainerRecreateRequest"},
		Object: runtime.RawExtension{Raw: []byte(raw)},
	}}
	reader := b.Build()
	resp := (&Mutator{Reader: reader}).Handle(context.Background(), req)
	if !resp.Allowed {
		return resp, nil
	}
	crr, out := apply(t, version, resp, raw)
	req.Object.Raw = out
	return (&Validator{Daemon: daemon, Reader: reader}).Handle(context.Background(), req), crr
}

// apply returns what is left of raw after a mutation.
func apply(t *testing.T, version string, resp admission.Response, raw string) (*appsv1beta1.ContainerRecreateRequest, []byte) {
	t.Helper()
	operations, err := json.Marshal(resp.Patches)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	crr, err := decode(version, out)
	if err != nil {
		t.Fatal(err)
	}
	return crr, out
}

func node(labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: labels}}
}

const app = `"podName":"p","containers":[{"name":"app"}]`

func TestCreate(t *testing.T) {
	for version, marker := range map[string]string{"v1beta1": "S_container_restart_1", "v1alpha1": "S_container_restart_2"} {
		t.Run(marker, func(t *testing.T) {
			_, crr := create(t, true, version, app, runningPod(nil), node(nil))
			l := crr.Labels
			if l["crr.apps.kruise.io/pod-uid"] != "p-uid" || l["crr.apps.kruise.io/node-name"] != "n" || l["crr.apps.kruise.io/active"] != "true" {
				t.Errorf("labels %v", l)
			}
			c := crr.Spec.Containers[0]
			if *c.StatusContext != (appsv1beta1.ContainerRecreateRequestContainerContext{ContainerID: "containerd://A", RestartCount: 2}) || c.PreStop.Sleep == nil {
				t.Errorf("container %+v", c)
			}
			if s := crr.Spec.Strategy; s.FailurePolicy != "Fail" || *s.TerminationGracePeriodSeconds != 30 {
				t.Errorf("strategy %+v", s)
			}
		})
	}
	for name, tc := range map[string]struct {
		spec string
		edit func(*corev1.Pod)
		say  string
	}{
		"empty podName":           {`"containers":[{"name":"app"}]`, nil, "podName"},
		"no containers":           {`"podName":"p"`, nil, "containers"},
		"same container twice":    {`"podName":"p","containers":[{"name":"app"},{"name":"app"}]`, nil, "twice"},
		"unknown container":       {`"podName":"p","containers":[{"name":"x"}]`, nil, "not in the spec"},
		"succeeded":               {app, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, "not active"},
		"pending":                 {app, func(p *corev1.Pod) { p.Spec.NodeName = "" }, "pending Pod"},
		"short deadline":          {app + `,"activeDeadlineSeconds":2`, nil, "at least 3"},
		"negative grace":          {app + `,"strategy":{"terminationGracePeriodSeconds":-1}`, nil, "negative"},
		"failurePolicy Foo":       {app + `,"strategy":{"failurePolicy":"Foo"}`, nil, "Fail or Ignore"},
		"preset statusContext":    {`"podName":"p","containers":[{"name":"app","statusContext":{"containerID":"x","restartCount":0}}]`, nil, "are ready-only fields"},
		"S_container_restart_34/": {`"podName":"p","containers":[{"name":"waiting"}]`, nil, `"waiting" of pod p has no containerID: it waits: ImagePullBackOff`},
	} {
		t.Run("S_container_restart_3/"+name, func(t *testing.T) {
			resp, _ := create(t, true, "v1beta1", tc.spec, runningPod(tc.edit), node(nil))
			if resp.Allowed || resp.Result.Code != 400 || !strings.Contains(resp.Result.Message, tc.say) {
				t.Errorf("answer %+v", resp.Result)
			}
		})
	}
	t.Run("S_container_restart_4", func(t *testing.T) {
		if resp, _ := create(t, true, "v1beta1", app+`,"activeDeadlineSeconds":3`, runningPod(nil), node(nil)); !resp.Allowed {
			t.Errorf("answer %+v", resp.Result)
		}
	})
	t.Run("S_container_restart_5", func(t *testing.T) {
		failed := runningPod(func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.Conditions = []corev1.PodCondition{{Type: "SidecarTerminated", Status: corev1.ConditionTrue}}
		})
		if resp, _ := create(t, true, "v1beta1", app, failed, node(nil)); !resp.Allowed {
			t.Errorf("answer %+v", resp.Result)
		}
	})
	t.Run("S_container_restart_6", func(t *testing.T) {
		if _, crr := create(t, true, "v1beta1", app, runningPod(nil), node(map[string]string{"type": "virtual-kubelet"})); crr.Labels["type"] != "virtual-kubelet" {
			t.Errorf("labels %v", crr.Labels)
		}
	})
	t.Run("S_container_restart_8", func(t *testing.T) {
		if resp, _ := create(t, false, "v1beta1", app, runningPod(nil), node(nil)); resp.Allowed || resp.Result.Code != 403 {
			t.Errorf("answer %+v", resp.Result)
		}
	})
	t.Run("no node, no pod", func(t *testing.T) {
		if resp, _ := create(t, true, "v1beta1", app, runningPod(nil), nil); resp.Result.Code != 400 {
			t.Errorf("answer %+v", resp.Result)
		}
		if resp, _ := create(t, true, "v1beta1", app, nil, nil); resp.Result.Code != 400 {
			t.Errorf("answer %+v", resp.Result)
		}
	})
}

func TestUpdate(t *testing.T) {
	t.Run("S_container_restart_7", func(t *testing.T) {
		old := `{"metadata":{"name":"r","labels":{"crr.apps.kruise.io/pod-uid":"u","crr.apps.kruise.io/node-name":"n"}},"spec":{"podName":"p"}}`
		for updated, want := range map[string]int32{
			strings.Replace(old, `"podName":"p"`, `"podName":"q"`, 1):                                403,
			strings.Replace(old, `"u"`, `"v"`, 1):                                                    403,
			strings.Replace(old, `"n"}`, `"m"}`, 1):                                                  403,
			strings.Replace(old, `"name":"r"`, `"name":"r","annotations":{"a":"b"}`, 1):              200,
			strings.Replace(old, `"name":"r"`, `"deletionTimestamp":"2026-01-01T00:00:00Z"`, 1) + "": 200,
		} {
			h := &Validator{}
			resp := h.Handle(context.Background(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Operation: admissionv1.Update, Kind: metav1.GroupVersionKind{Version: "v1alpha1"},
				Object: runtime.RawExtension{Raw: []byte(updated)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
			}})
			if resp.Result.Code != want {
				t.Errorf("%s: %+v", updated, resp.Result)
			}
		}
	})
}

// What reaches storage without the mutating webhook, or was changed after it, is refused (platform W15).
func TestUnfilled(t *testing.T) {
	filled := func(edit func(*appsv1beta1.ContainerRecreateRequest)) []byte {
		_, crr := create(t, true, "v1beta1", app, runningPod(nil), node(nil))
		crr.Namespace, crr.Name = "ns", "r"
		edit(crr)
		raw, err := json.Marshal(crr)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	v := &Validator{Daemon: true, Reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(runningPod(nil), node(nil)).Build()}
	for name, tc := range map[string]struct {
		edit func(*appsv1beta1.ContainerRecreateRequest)
		say  string
	}{
		"as filled in": {func(*appsv1beta1.ContainerRecreateRequest) {}, ""},
		"a restart since": {func(c *appsv1beta1.ContainerRecreateRequest) {
			c.Spec.Containers[0].StatusContext.ContainerID = "containerd://Z"
		}, ""},
		"no strategy":              {func(c *appsv1beta1.ContainerRecreateRequest) { c.Spec.Strategy = nil }, "spec.strategy is missing"},
		"no labels":                {func(c *appsv1beta1.ContainerRecreateRequest) { c.Labels = nil }, `label crr.apps.kruise.io/active must be "true"`},
		"another node":             {func(c *appsv1beta1.ContainerRecreateRequest) { c.Labels["crr.apps.kruise.io/node-name"] = "m" }, `node-name must be "n"`},
		"another pod":              {func(c *appsv1beta1.ContainerRecreateRequest) { c.Labels["crr.apps.kruise.io/pod-uid"] = "x" }, `pod-uid must be "p-uid"`},
		"S_security_19/no context": {func(c *appsv1beta1.ContainerRecreateRequest) { c.Spec.Containers[0].StatusContext = nil }, "no statusContext"},
		"S_security_19/a foreign hook": {func(c *appsv1beta1.ContainerRecreateRequest) {
			c.Spec.Containers[0].PreStop = &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"id"}}}
		}, "are ready-only fields"},
	} {
		t.Run(name, func(t *testing.T) {
			resp := v.Handle(context.Background(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Operation: admissionv1.Create, Namespace: "ns", Name: "r", Kind: metav1.GroupVersionKind{Version: "v1beta1"},
				Object: runtime.RawExtension{Raw: filled(tc.edit)},
			}})
			if resp.Allowed != (tc.say == "") || !resp.Allowed && (resp.Result.Code != 400 || !strings.Contains(resp.Result.Message, tc.say)) {
				t.Errorf("answer %+v", resp.Result)
			}
		})
	}
}
