// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/revision"
)

// revisions returns the ControllerRevisions of the namespace, the oldest first.
func (w *world) revisions() []*appsv1.ControllerRevision {
	w.Helper()
	var all appsv1.ControllerRevisionList
	w.must(w.client.List(w.ctx, &all, client.InNamespace(w.namespace)))
	out := make([]*appsv1.ControllerRevision, len(all.Items))
	for i := range all.Items {
		out[i] = &all.Items[i]
	}
	revision.Sort(out)
	return out
}

// podVersions maps the pods to their resource versions.
func (w *world) podVersions() map[string]string {
	out := map[string]string{}
	for _, p := range w.pods() {
		out[p.Name] = p.ResourceVersion
	}
	return out
}

// staysQuiet fails if pods or revisions change within two seconds.
func (w *world) staysQuiet(pods map[string]string, revisions int) {
	w.Helper()
	_ = wait.PollUntilContextTimeout(w.ctx, 200*time.Millisecond, 2*time.Second, true, func(context.Context) (bool, error) {
		if diff := cmp.Diff(pods, w.podVersions()); diff != "" {
			w.Fatalf("pods were written:\n%s", diff)
		}
		if got := w.revisions(); len(got) != revisions {
			w.Fatalf("%d revisions, there were %d", len(got), revisions)
		}
		return false, nil
	})
}

// S_cloneset_8: what is not in the template makes no revision.
func TestS_cloneset_8_NoSpuriousRevision(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2))
	pods := w.podVersions()
	w.patch(cs, func(cs *v1beta1.CloneSet) {
		cs.Annotations = map[string]string{"note": "changed"}
		cs.Spec.UpdateStrategy.RollingUpdate.Paused = true
		cs.Spec.MinReadySeconds = 1
		cs.Spec.RevisionHistoryLimit = ptr.To[int32](3)
	})
	w.waitRolledOut(cs)
	w.staysQuiet(pods, 1)
	// The manifest sent again, without the defaults that are stored.
	again := w.cloneSet(2)
	again.ResourceVersion = cs.ResourceVersion
	w.must(w.client.Update(w.ctx, again))
	w.waitRolledOut(again)
	w.staysQuiet(pods, 1)
}

// S_cloneset_32: the history is cut, and a template that comes back gets its revision back.
func TestS_cloneset_32_History(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(1, func(cs *v1beta1.CloneSet) { cs.Spec.RevisionHistoryLimit = ptr.To[int32](2) }))
	image := func(n int) string { return fmt.Sprintf("registry.example/web:v%d", n) }
	for n := 2; n <= 7; n++ {
		w.patch(cs, setImage(image(n)))
		w.waitRolledOut(cs)
	}
	w.eventually("two old revisions and the live one remain", func() error {
		if got := w.revisions(); len(got) != 3 {
			return fmt.Errorf("%d revisions", len(got))
		}
		return nil
	})
	before := w.revisions()
	w.patch(cs, setImage(image(5)))
	w.waitRolledOut(cs)
	after := w.revisions()
	if cs.Status.UpdateRevision != before[0].Name {
		t.Errorf("the update revision is %s, the template was %s", cs.Status.UpdateRevision, before[0].Name)
	}
	if newest := after[len(after)-1]; len(after) != 3 || newest.Name != before[0].Name || newest.Revision <= before[2].Revision {
		t.Errorf("%d revisions, the newest %s has number %d", len(after), newest.Name, newest.Revision)
	}
}

// S_cloneset_9: revisions as OpenKruise wrote them, from older libraries, with an owner reference of the old version, are
// known again by a manager that starts: no revision is made and no pod written.
func TestS_cloneset_9_AdoptsRevisions(t *testing.T) {
	w, m := newCluster(t)
	cs := w.create(w.cloneSet(3))
	w.must(m.Stop())

	written := w.revisions()[0]
	if !strings.Contains(string(written.Data.Raw), `"creationTimestamp":null`) {
		t.Errorf("our own data lacks the null timestamp, so its hash differs from OpenKruise's: %s", written.Data.Raw)
	}
	// Older libraries did not know some default, and nobody stored claims beside the data.
	older := strings.Replace(string(written.Data.Raw), `"schedulerName":"default-scheduler",`, "", 1)
	if older == string(written.Data.Raw) {
		t.Fatalf("nothing to take away from %s", older)
	}
	w.must(w.client.Delete(w.ctx, written, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	old := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: written.Namespace, Name: written.Name, Labels: written.Labels, OwnerReferences: written.OwnerReferences,
			Annotations: map[string]string{revision.ClaimHashAnnotation: ""},
		},
		Revision: written.Revision,
	}
	old.OwnerReferences[0].APIVersion = "apps.kruise.io/v1alpha1"
	old.Data.Raw = []byte(older)
	w.must(w.client.Create(w.ctx, old))

	pods := w.podVersions()
	_, err := w.cluster.StartManager(w.ctx)
	w.must(err)
	// Something harmless shows that the controller has looked.
	w.must(w.client.Patch(w.ctx, cs, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"revisionHistoryLimit":5}}`))))
	w.waitRolledOut(cs)
	w.staysQuiet(pods, 1)
	if cs.Status.UpdateRevision != old.Name || cs.Status.CurrentRevision != old.Name {
		t.Errorf("update revision %s, current %s, want %s", cs.Status.UpdateRevision, cs.Status.CurrentRevision, old.Name)
	}
	// The next change of image is made in place, although the old data lacks a default.
	before := uids(w.pods())
	w.patch(cs, setImage(imageV2))
	w.waitRolledOut(cs)
	if diff := cmp.Diff(before, uids(w.pods())); diff != "" {
		t.Errorf("pods were recreated:\n%s", diff)
	}
}
