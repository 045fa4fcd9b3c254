// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/lab"
)

// refuse has the apiserver refuse writes to the namespace's pods for which a CEL expression is false, and waits until it
// does. lift takes that back.
func (w *world) refuse(operation admissionv1.OperationType, expression string) (lift func()) {
	w.Helper()
	scope := &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
		MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace},
	}}
	probe := "example.io/refusal-probe"
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: scope.NamespaceSelector,
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{operation, admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Validations: []admissionv1.Validation{
				{Expression: fmt.Sprintf("request.operation != '%s' || (%s)", operation, expression), Message: "refused by the test"},
				{Expression: fmt.Sprintf("!has(object.metadata.labels) || !('%s' in object.metadata.labels)", probe), Message: "the policy works"},
			},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy.Name, MatchResources: scope, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	w.must(w.client.Create(w.ctx, policy))
	w.must(w.client.Create(w.ctx, binding))
	remove := func() error {
		return errors.Join(client.IgnoreNotFound(w.client.Delete(context.Background(), binding)), client.IgnoreNotFound(w.client.Delete(context.Background(), policy)))
	}
	w.Cleanup(func() {
		if err := remove(); err != nil {
			w.Error(err)
		}
	})
	w.eventually("the policy works", func() error {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, GenerateName: "probe-", Labels: map[string]string{probe: ""}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: imageV1}}},
		}
		if err := w.client.Create(w.ctx, p, client.DryRunAll); !apierrors.IsInvalid(err) {
			return errors.Join(errors.New("a pod that it forbids is not refused"), err)
		}
		return nil
	})
	return func() { w.must(remove()) }
}

// S_cloneset_2: when pods are refused, one attempt is enough to know, and the CloneSet says so.
func TestS_cloneset_2_SlowStartFailure(t *testing.T) {
	w := newWorld(t)
	lift := w.refuse(admissionv1.Create, "false")
	from, err := lab.AuditEnd(shared.AuditLog())
	w.must(err)
	cs := w.cloneSet(5)
	w.must(w.client.Create(w.ctx, cs))
	w.waitStatus(cs, "the scale-out failed", func(cs *v1beta1.CloneSet) bool {
		c := condition(cs, v1beta1.CloneSetConditionFailedScale)
		return c != nil && c.Status == corev1.ConditionTrue && strings.Contains(c.Message, "refused by the test")
	})
	if message := w.waitEvent("FailedCreate"); strings.Contains(message, "terminationGracePeriodSeconds") {
		t.Errorf("the event carries the whole pod: %s", message)
	}
	attempts := func() (n int, reported bool) {
		var report time.Time
		var creates []time.Time
		for e, err := range lab.AuditEntries(shared.AuditLog(), from) {
			w.must(err)
			switch {
			case e.Namespace != w.namespace || !e.IsWrite():
			case e.Resource == "pods" && e.Verb == "create" && e.Code == 422 && e.Agent() == "kruise-manager":
				creates = append(creates, e.Time)
			case e.Resource == "clonesets" && e.Subresource == "status" && (report.IsZero() || e.Time.Before(report)):
				report = e.Time
			}
		}
		for _, c := range creates {
			if c.Before(report) {
				n++
			}
		}
		return n, !report.IsZero()
	}
	w.eventually("the audit log has the first report", func() error {
		if _, reported := attempts(); !reported {
			return errors.New("it has not")
		}
		return nil
	})
	if n, _ := attempts(); n != 1 {
		t.Errorf("%d attempts before the first report, not 1", n)
	}
	lift()
	w.waitRolledOut(cs)
	w.waitStatus(cs, "the condition clears", func(cs *v1beta1.CloneSet) bool {
		return condition(cs, v1beta1.CloneSetConditionFailedScale).Status == corev1.ConditionFalse
	})
}

// A quota has no room for the last pod. That is reported, and no reason to leave the others at the old revision.
func TestQuotaDoesNotStopARollout(t *testing.T) {
	w := newWorld(t)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "pods"}}
	quota.Spec.Hard = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("3")}
	w.must(w.client.Create(w.ctx, quota))
	w.eventually("the quota is computed", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(quota), quota))
		if len(quota.Status.Used) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	cs := w.cloneSet(4, limits(2, 0))
	w.must(w.client.Create(w.ctx, cs))
	w.waitStatus(cs, "three pods are available, and the fourth is reported", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.AvailableReplicas == 3 && condition(cs, v1beta1.CloneSetConditionFailedScale).Status == corev1.ConditionTrue
	})
	w.change(cs, setImage(imageV2))
	w.waitStatus(cs, "all three are updated", func(cs *v1beta1.CloneSet) bool { return cs.Status.UpdatedAvailableReplicas == 3 })
}

// asJSON encodes an object as kubectl takes it.
func asJSON(t *testing.T, o any, version string) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "status")
	fields["apiVersion"], fields["kind"] = "apps.kruise.io/"+version, "CloneSet"
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// asAlpha is a v1alpha1 CloneSet like that of world.cloneSet.
func (w *world) asAlpha(cs *v1beta1.CloneSet) *v1alpha1.CloneSet {
	return &v1alpha1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: cs.Namespace, Name: cs.Name},
		Spec: v1alpha1.CloneSetSpec{
			Replicas: cs.Spec.Replicas, Selector: cs.Spec.Selector, Template: cs.Spec.Template,
			UpdateStrategy: v1alpha1.CloneSetUpdateStrategy{Type: v1alpha1.InPlaceIfPossibleCloneSetUpdateStrategyType},
		},
	}
}

// S_cloneset_7: what kubectl users are refused at creation, in both versions, and the field that the answer names.
func TestS_cloneset_7_RefusedAtCreation(t *testing.T) {
	w := newWorld(t)
	template := func(patch string) string { return `{"spec":{"template":{"spec":` + patch + `}}}` }
	for _, c := range []struct{ name, beta, alpha, want string }{
		{"restartPolicy", template(`{"restartPolicy":"OnFailure"}`), template(`{"restartPolicy":"OnFailure"}`), "spec.template.spec.restartPolicy"},
		{"activeDeadlineSeconds", template(`{"activeDeadlineSeconds":5}`), template(`{"activeDeadlineSeconds":5}`), "spec.template.spec.activeDeadlineSeconds"},
		{"neither unavailable nor surge", `{"spec":{"updateStrategy":{"rollingUpdate":{"maxUnavailable":0,"maxSurge":0}}}}`,
			`{"spec":{"updateStrategy":{"maxUnavailable":0,"maxSurge":0}}}`, "maxUnavailable"},
		{"InPlaceOnly with surge", `{"spec":{"updateStrategy":{"rollingUpdate":{"podUpdatePolicy":"InPlaceOnly","maxSurge":1}}}}`,
			`{"spec":{"updateStrategy":{"type":"InPlaceOnly","maxSurge":1}}}`, "maxSurge"},
		{"duplicate podsToDelete", `{"spec":{"scaleStrategy":{"podsToDelete":["a","a"]}}}`,
			`{"spec":{"scaleStrategy":{"podsToDelete":["a","a"]}}}`, "spec.scaleStrategy.podsToDelete"},
		{"partition", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":"abc"}}}}`, `{"spec":{"updateStrategy":{"partition":"abc"}}}`, "partition"},
		{"deadline", `{"spec":{"minReadySeconds":10,"progressDeadlineSeconds":10}}`, `{"spec":{"minReadySeconds":10,"progressDeadlineSeconds":10}}`, "spec.progressDeadlineSeconds"},
	} {
		for version, patch := range map[string]string{"v1beta1": c.beta, "v1alpha1": c.alpha} {
			base := asJSON(t, w.cloneSet(1), version)
			if version == "v1alpha1" {
				base = asJSON(t, w.asAlpha(w.cloneSet(1)), version)
			}
			out, err := w.kubectl(mergeJSON(t, base, patch), "create", "--dry-run=server", "-f", "-")
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%s in %s: the refusal does not name %s: %v\n%s", c.name, version, c.want, err, out)
			}
		}
	}
	// Weakness 1: this is accepted.
	out, err := w.kubectl(asJSON(t, w.cloneSet(1, limits(0, 1)), "v1beta1"), "create", "--dry-run=server", "-f", "-")
	if err != nil {
		t.Errorf("maxUnavailable 0 with maxSurge 1 is refused: %s", out)
	}
}

// mergeJSON applies a merge patch to a document, lists and scalars replacing what was there.
func mergeJSON(t *testing.T, document, patch string) string {
	t.Helper()
	var d, p map[string]any
	if err := errors.Join(json.Unmarshal([]byte(document), &d), json.Unmarshal([]byte(patch), &p)); err != nil {
		t.Fatal(err)
	}
	var merge func(into, from map[string]any)
	merge = func(into, from map[string]any) {
		for k, v := range from {
			inner, isMap := v.(map[string]any)
			old, wasMap := into[k].(map[string]any)
			if isMap && wasMap {
				merge(old, inner)
			} else {
				into[k] = v
			}
		}
	}
	merge(d, p)
	out, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// S_cloneset_7: what is refused of an existing CloneSet.
func TestS_cloneset_7_RefusedUpdates(t *testing.T) {
	w := newWorld(t)
	foreign := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "foreign", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: imageV1}}},
	}
	w.must(w.client.Create(w.ctx, foreign))
	w.create(w.cloneSet(1))
	versions := w.podVersions()
	inPlaceOnly := map[string]string{"v1beta1": `"updateStrategy":{"rollingUpdate":{"podUpdatePolicy":"InPlaceOnly"}}`, "v1alpha1": `"updateStrategy":{"type":"InPlaceOnly"}`}
	for version, policy := range inPlaceOnly {
		for _, c := range []struct{ name, patch, want string }{
			{"selector", `{"spec":{"selector":{"matchLabels":{"app":"other"}},"template":{"metadata":{"labels":{"app":"other"}}}}}`, "selector"},
			{"foreign pod", `{"spec":{"scaleStrategy":{"podsToDelete":["foreign"]}}}`, "foreign"},
			{"missing pod", `{"spec":{"scaleStrategy":{"podsToDelete":["nobody"]}}}`, "nobody"},
			{"env with InPlaceOnly", `{"spec":{` + policy + `,"template":{"spec":{"containers":[{"name":"app","image":"` + imageV1 + `","env":[{"name":"A","value":"b"}]}]}}}}`, "InPlaceOnly"},
		} {
			out, err := w.kubectl("", "patch", "clonesets."+version+".apps.kruise.io", "web", "--type=merge", "--dry-run=server", "-p", c.patch)
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%s in %s: the refusal does not name %q: %v\n%s", c.name, version, c.want, err, out)
			}
		}
	}
	// The status of a refusal is that of invalid input.
	alpha := &v1alpha1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"updateStrategy":{"type":"InPlaceOnly"},"template":{"spec":{"containers":[{"name":"app","image":"`+imageV1+`","env":[{"name":"A","value":"b"}]}]}}}}`))
	if err := w.client.Patch(w.ctx, alpha, patch); !apierrors.IsInvalid(err) {
		t.Errorf("the refusal is %v, not 422", err)
	}
	for name, version := range w.podVersions() {
		if versions[name] != version && name != "foreign" {
			t.Errorf("pod %s was written", name)
		}
	}
}
