// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/lab"
)

// TestTakesOverOpenKruise starts our manager, with the gates of OpenKruise's chart, where OpenKruise's was. Nothing may be
// restarted, recreated or written that works; a rollout in progress goes on where it was.
func TestTakesOverOpenKruise(t *testing.T) {
	old, jobs := openKruise(t)
	before := running(t, old)
	revisions := revisionsOf(t, old)
	from, err := lab.AuditEnd(kruise.AuditLog())
	must(t, err)

	m, err := kruise.StartManager(t.Context(), "--feature-gates=ImagePullJobGate=true")
	must(t, err)
	t.Cleanup(func() { _ = m.Stop() })
	for _, list := range []client.ObjectList{&v1beta1.CloneSetList{}, &v1beta1.NodeImageList{}, &v1beta1.ImagePullJobList{}, &v1beta1.ImageListPullJobList{}} {
		await.That(t, "the apiserver has our manager convert", func() error { return kruise.Client.List(t.Context(), list) })
	}
	for _, name := range []string{"web", "db", "api"} {
		looked(t, name)
	}

	t.Run("no pod is written", func(t *testing.T) {
		if diff := cmp.Diff(before, running(t, old)); diff != "" {
			t.Errorf("pods before and after:\n%s", diff)
		}
		if writes := managerWrites(t, from); len(writes) != 0 {
			t.Errorf("the manager wrote %v", writes)
		}
	})
	t.Run("no revision is made", func(t *testing.T) {
		if diff := cmp.Diff(revisions, revisionsOf(t, old)); diff != "" {
			t.Errorf("revisions before and after:\n%s", diff)
		}
	})
	t.Run("status stays", func(t *testing.T) {
		cs := get(t, "web")
		if s := cs.Status; s.Replicas != 3 || s.UpdatedReplicas != 1 || s.AvailableReplicas != 3 || s.ExpectedUpdatedReplicas != 1 ||
			s.CurrentRevision == s.UpdateRevision || s.UpdateRevision != "web-"+revisionHash(revisionData("web", "registry.example/web:v2")) {
			t.Errorf("the status of web is %+v", s)
		}
	})
	t.Run("image jobs stay", func(t *testing.T) {
		await.That(t, "the image jobs were looked at", func() error { return imageJobsSeen(t) })
		if diff := cmp.Diff(jobs, imageJobs(t)); diff != "" {
			t.Errorf("image jobs and NodeImage before and after:\n%s", diff)
		}
	})
	t.Run("webhooks are ours", func(t *testing.T) { configurationsAreOurs(t, old) })
	t.Run("an update in progress ends without a second restart", func(t *testing.T) { updateEnds(t, old) })
	t.Run("a rollout goes on where it was", func(t *testing.T) { rolloutGoesOn(t, old, before) })
	t.Run("stored versions migrate", func(t *testing.T) { storedVersionsMigrate(t, old) })
	t.Run("claims are known", func(t *testing.T) { claimsAreKnown(t) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// running maps pods to what must not change: identity, version, and how often containers were restarted.
func running(t *testing.T, c client.Client) map[string]string {
	t.Helper()
	var pods corev1.PodList
	must(t, c.List(t.Context(), &pods, client.InNamespace("shop")))
	out := map[string]string{}
	for _, p := range pods.Items {
		out[p.Name] = fmt.Sprintf("uid %s version %s restarts %d", p.UID, p.ResourceVersion, p.Status.ContainerStatuses[0].RestartCount)
	}
	return out
}

func revisionsOf(t *testing.T, c client.Client) map[string]int64 {
	t.Helper()
	var list appsv1.ControllerRevisionList
	must(t, c.List(t.Context(), &list, client.InNamespace("shop")))
	out := map[string]int64{}
	for _, r := range list.Items {
		out[r.Name] = r.Revision
	}
	return out
}

// imageJobs maps the jobs and the NodeImage of the node to what must not change: which there are, how they stand, and what
// the node is to pull.
func imageJobs(t *testing.T) map[string]any {
	t.Helper()
	out := map[string]any{}
	var jobs v1beta1.ImagePullJobList
	must(t, kruise.Client.List(t.Context(), &jobs, client.InNamespace("shop")))
	for _, j := range jobs.Items {
		out["job "+j.Name] = []any{j.UID, j.Status}
	}
	var nodes v1beta1.NodeImageList
	must(t, kruise.Client.List(t.Context(), &nodes))
	for _, n := range nodes.Items {
		if len(n.Spec.Images) > 0 {
			out["node "+n.Name] = []any{n.Generation, n.Spec, n.Status}
		}
	}
	return out
}

// imageJobsSeen tells whether our manager has been through the image jobs: the list has the hash label that we compute.
func imageJobsSeen(t *testing.T) error {
	t.Helper()
	var list v1beta1.ImageListPullJob
	must(t, kruise.Client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "list"}, &list))
	if list.Labels["controller-revision-hash"] == "6bd4c8f7f5" {
		return fmt.Errorf("the list was not looked at")
	}
	return nil
}

func get(t *testing.T, name string) *v1beta1.CloneSet {
	t.Helper()
	cs := &v1beta1.CloneSet{}
	must(t, kruise.Client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, cs))
	return cs
}

func patch(t *testing.T, name, body string) *v1beta1.CloneSet {
	t.Helper()
	cs := get(t, name)
	must(t, kruise.Client.Patch(t.Context(), cs, client.RawPatch(types.MergePatchType, []byte(body))))
	return cs
}

// looked waits until the controller has seen the CloneSet, which something harmless shows.
func looked(t *testing.T, name string) {
	t.Helper()
	cs := patch(t, name, `{"spec":{"revisionHistoryLimit":9}}`)
	await.That(t, "the controller looks at "+name, func() error {
		if seen := get(t, name).Status.ObservedGeneration; seen < cs.Generation {
			return fmt.Errorf("generation %d is observed, not %d", seen, cs.Generation)
		}
		return nil
	})
}

// managerWrites returns what the manager wrote to pods and what belongs to them.
func managerWrites(t *testing.T, from int64) []string {
	t.Helper()
	var out []string
	for e, err := range lab.AuditEntries(kruise.AuditLog(), from) {
		must(t, err)
		switch e.Resource {
		case "pods", "controllerrevisions", "persistentvolumeclaims", "containerrecreaterequests":
			if e.IsWrite() && strings.HasPrefix(e.UserAgent, "kruise-manager") {
				out = append(out, fmt.Sprintf("%s %s/%s %s: %d", e.Verb, e.Resource, e.Subresource, e.Name, e.Code))
			}
		}
	}
	return out
}

func configurationsAreOurs(t *testing.T, c client.Client) {
	await.That(t, "webhooks of features that do not exist are gone, the others call us", func() error {
		var m admissionv1.MutatingWebhookConfiguration
		if err := c.Get(t.Context(), client.ObjectKey{Name: "kruise-mutating-webhook-configuration"}, &m); err != nil {
			return err
		}
		for _, w := range m.Webhooks {
			if w.Name == "msidecarset.kb.io" {
				return fmt.Errorf("%s is there", w.Name)
			}
			if w.ClientConfig.URL == nil || len(w.ClientConfig.CABundle) == 0 {
				return fmt.Errorf("%s does not call us: %v", w.Name, w.ClientConfig)
			}
			if w.Name == "mpod.kb.io" && len(w.MatchConditions) == 0 {
				return fmt.Errorf("%s is called for every pod", w.Name)
			}
		}
		if text, there := m.Annotations["template"]; there {
			return fmt.Errorf("the annotation template is there: %s", text)
		}
		return nil
	})
}

// kubelet plays the kubelet that has restarted the container of a pod with the image of its spec.
func kubelet(t *testing.T, c client.Client, name string) {
	t.Helper()
	p := &corev1.Pod{}
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, p))
	_, version, _ := strings.Cut(p.Spec.Containers[0].Image, ":")
	s := &p.Status.ContainerStatuses[0]
	body, err := json.Marshal(map[string]any{"status": map[string]any{"containerStatuses": []any{map[string]any{
		"name": "app", "imageID": "registry.example/app@sha256:" + version, "image": p.Spec.Containers[0].Image,
		"containerID": "containerd://" + version, "restartCount": s.RestartCount + 1,
	}}}})
	must(t, err)
	must(t, c.Status().Patch(t.Context(), p, client.RawPatch(types.StrategicMergePatchType, body)))
}

// inService waits until a pod serves at a revision, and sets it ready as a kubelet does then.
func inService(t *testing.T, c client.Client, name, revision string) {
	t.Helper()
	p := &corev1.Pod{}
	await.That(t, "pod "+name+" is put back into service", func() error {
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, p); err != nil {
			return err
		}
		if got := p.Labels["controller-revision-hash"]; got != revision {
			return fmt.Errorf("its revision is %s", got)
		}
		if got := p.Labels["lifecycle.apps.kruise.io/state"]; got != "Normal" {
			return fmt.Errorf("its state is %s", got)
		}
		for _, condition := range p.Status.Conditions {
			if condition.Type == "InPlaceUpdateReady" && condition.Status != corev1.ConditionTrue {
				return fmt.Errorf("%s is %s", condition.Type, condition.Status)
			}
		}
		return nil
	})
	must(t, c.Status().Patch(t.Context(), p, client.RawPatch(types.StrategicMergePatchType, []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`))))
}

func updateEnds(t *testing.T, c client.Client) {
	kubelet(t, c, "api-bn2fs")
	inService(t, c, "api-bn2fs", "api-"+revisionHash(revisionData("api", "registry.example/api:v2")))
	await.That(t, "the status of api says so", func() error {
		if s := get(t, "api").Status; s.UpdatedAvailableReplicas != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func rolloutGoesOn(t *testing.T, c client.Client, before map[string]string) {
	patch(t, "web", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	revision := "web-" + revisionHash(revisionData("web", "registry.example/web:v2"))
	done := map[string]bool{}
	for range 2 { // maxUnavailable 20% of 3 is one at a time
		var next string
		await.That(t, "one of the old pods is updated", func() error {
			var pods corev1.PodList
			if err := c.List(t.Context(), &pods, client.InNamespace("shop"), client.MatchingLabels{"app": "web"}); err != nil {
				return err
			}
			for _, p := range pods.Items {
				if p.Name != "web-4hvn7" && !done[p.Name] && strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") {
					next = p.Name
					return nil
				}
			}
			return fmt.Errorf("%d pods wait", len(pods.Items))
		})
		kubelet(t, c, next)
		inService(t, c, next, revision)
		done[next] = true
	}
	await.That(t, "web is rolled out", func() error {
		if s := get(t, "web").Status; s.UpdatedAvailableReplicas != 3 || s.CurrentRevision != revision {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	after := running(t, c)
	if after["web-4hvn7"] != before["web-4hvn7"] {
		t.Errorf("the pod that was updated already: %s, was %s", after["web-4hvn7"], before["web-4hvn7"])
	}
	for name := range done {
		uid, _, _ := strings.Cut(before[name], " version")
		if !strings.HasPrefix(after[name], uid) || !strings.HasSuffix(after[name], "restarts 1") {
			t.Errorf("pod %s: %s, was %s", name, after[name], before[name])
		}
	}
}

// claimsAreKnown scales in: the claim that OpenKruise made goes with its pod.
func claimsAreKnown(t *testing.T) {
	patch(t, "db", `{"spec":{"replicas":0}}`)
	claim := &unstructured.Unstructured{}
	claim.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"})
	await.That(t, "pod and claim are deleted", func() error {
		err := kruise.Client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "data-db-x5k8c"}, claim)
		if err == nil && claim.GetDeletionTimestamp() == nil {
			return fmt.Errorf("the claim is there")
		}
		return client.IgnoreNotFound(err)
	})
}
