// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/component-base/featuregate"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/launchpriority"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/internal/podadmission"
	"kruise.io/kruise/internal/podadmission/concern/celtest"
)

// TestConcernsMissNobody: a pod that any feature would change or refuse fulfils the match condition of the pod webhook.
func TestConcernsMissNobody(t *testing.T) {
	for _, toAll := range []bool{false, true} {
		t.Run(fmt.Sprintf("KruisePodReadinessGate=%t", toAll), func(t *testing.T) {
			g, err := gates.FromMap(map[string]bool{"KruisePodReadinessGate": toAll})
			if err != nil {
				t.Fatal(err)
			}
			chain := podChain(g)
			m := celtest.Compile(t, mutatePodCondition(t, g))
			called, changed := 0, 0
			rapid.Check(t, func(rt *rapid.T) {
				p := interestingPod(rt)
				matches, _, err := m.Match(t, celtest.Request{Operation: apiadmission.Create, Namespace: "web", Object: p})
				if err != nil {
					rt.Fatal(err)
				}
				resp := chain.Handle(t.Context(), podRequest(t, p))
				does := !resp.Allowed || len(resp.Patches) > 0
				if does && !matches {
					rt.Fatalf("missed: %v %v", resp.Result, resp.Patches)
				}
				if matches {
					called++
				}
				if does {
					changed++
				}
			})
			t.Logf("%d called for, %d changed or refused", called, changed)
			if changed == 0 {
				t.Error("no feature did anything")
			}
		})
	}
}

// podChain is the chain of all features.
func podChain(g featuregate.FeatureGate) podadmission.Chain {
	var chain podadmission.Chain
	for _, f := range Features() {
		if f.PodMutator != nil && f.enabled(g) {
			chain = append(chain, f.PodMutator(&Deps{Name: f.Name, Gates: g}))
		}
	}
	return chain
}

func mutatePodCondition(t *testing.T, g featuregate.FeatureGate) string {
	m, _ := webhooks.Configurations(webhooks.Endpoint{Host: "h", Port: 1}, g, "kruise-system")
	for _, w := range m.Webhooks {
		if w.Name == "mpod.kb.io" && len(w.MatchConditions) == 1 {
			return w.MatchConditions[0].Expression
		}
	}
	t.Fatal("the pod webhook has no condition")
	return ""
}

func podRequest(t testing.TB, p *corev1.Pod) admission.Request {
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "web", Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object: runtime.RawExtension{Raw: raw},
	}}
}

// interestingPod has what features look at, or nearly.
func interestingPod(t *rapid.T) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"}}
	odds := func(name string) bool { return rapid.IntRange(0, 2).Draw(t, name) == 0 }
	controlled := false
	for range rapid.IntRange(0, 3).Draw(t, "owners") {
		o := metav1.OwnerReference{Kind: "K", Name: "o", UID: "u", APIVersion: rapid.SampledFrom([]string{
			"apps.kruise.io/v1alpha1", "apps.kruise.io/v1beta1", "apps/v1", "v1", "", "apps.kruise.io", "apps.kruise.io.example/v1"}).Draw(t, "version")}
		if odds("controller") && !controlled {
			o.Controller, controlled = ptr.To(true), true
		}
		p.OwnerReferences = append(p.OwnerReferences, o)
	}
	if odds("gate") {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: rapid.SampledFrom([]corev1.PodConditionType{
			pub.KruisePodReady, pub.InPlaceUpdateReady, "x"}).Draw(t, "gate type")}}
	}
	if odds("annotation") {
		p.Annotations = map[string]string{launchpriority.PriorityAnnotation: rapid.SampledFrom([]string{"Ordered", "ordered", ""}).Draw(t, "value")}
	}
	for n := range rapid.IntRange(0, 3).Draw(t, "containers") {
		c := corev1.Container{Name: strconv.Itoa(n)}
		if odds("env") {
			c.Env = []corev1.EnvVar{{Name: "A"}, {Name: launchpriority.PriorityEnv, Value: rapid.SampledFrom([]string{"1", "2", "0", "x"}).Draw(t, "priority")}}
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}
