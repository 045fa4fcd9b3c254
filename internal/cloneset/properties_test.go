// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/cloneset/sim"
	"kruise.io/kruise/internal/percent"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// sequences is the number of sequences the properties run, unless -rapid.checks says otherwise.
const sequences = 10000

// TestProperties runs arbitrary sequences of spec changes, pod misfortunes and reconciles, and checks after every
// reconcile what must always hold, and at the end of each sequence that the CloneSet comes to rest where it should.
func TestProperties(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue {
		n := sequences
		if testing.Short() {
			n /= 20
		}
		if err := checks.Value.Set(fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	total, covered := 0, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		r.rounds(between(t, 0, 8, "start"))
		for range between(t, 1, 12, "length") {
			r.act()
			r.rounds(between(t, 0, 4, "rounds") / 2)
		}
		r.finish()
		total++
		for what := range r.seen {
			covered[what]++
		}
	})
	checkCoverage(t, total, covered)
}

// coverage is what has to occur in at least one of this many sequences, or the properties prove little.
var coverage = map[string]int{
	"in place": 10, "recreate": 12, "surge": 10, "moved back": 600, "lost write": 8, "beside refusals": 200, "claim change": 30, "not available": 2,
	"prepare update": 150, "prepare delete": 60, "cancel delete": 600, "release": 15, "take over": 15,
	"delete " + string(cloneset.DeleteSpecified): 8, "delete " + string(cloneset.DeleteScaleIn): 8, "delete " + string(cloneset.DeleteReleased): 80,
	"wait " + string(cloneset.WaitPartition): 5, "wait " + string(cloneset.WaitMaxUnavailable): 8, "wait " + string(cloneset.WaitPaused): 60,
	"wait " + string(cloneset.WaitHook): 40, "wait " + string(cloneset.WaitScaleLimit): 200, "wait " + string(cloneset.WaitInPlace): 150,
	"wait " + string(cloneset.WaitScaling): 8, "wait " + string(cloneset.WaitDeletions): 120, "wait " + string(cloneset.WaitClaims): 140,
	"wait " + string(cloneset.WaitSurplus): 1000,
}

func checkCoverage(t *testing.T, total int, covered map[string]int) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(coverage)) {
		t.Logf("%6d of %d sequences: %s", covered[what], total, what)
	}
	if t.Failed() || total < 5000 {
		return
	}
	for what, oneIn := range coverage {
		if covered[what]*oneIn < total {
			t.Errorf("%q occurs in %d of %d sequences, expected one in %d", what, covered[what], total, oneIn)
		}
	}
}

// observe notes what a reconcile covers.
func (r *run) observe(d *cloneset.Decision, before view) {
	for _, e := range d.Edits {
		switch e.Kind {
		case cloneset.EditInPlace:
			r.seen["in place"] = true
		case cloneset.EditRecreate:
			r.seen["recreate"] = true
		case cloneset.EditPrepareUpdate:
			r.seen["prepare update"] = true
		case cloneset.EditPrepareDelete:
			r.seen["prepare delete"] = true
		case cloneset.EditCancelDelete:
			r.seen["cancel delete"] = true
		case cloneset.EditRelease:
			r.seen["release"] = true
		case cloneset.EditOwner:
			r.seen["take over"] = true
		}
		if e.Revision != "" && e.Revision != d.Status.UpdateRevision {
			r.seen["moved back"] = true
		}
	}
	for _, e := range d.Delete {
		r.seen["delete "+string(e.Reason)] = true
	}
	for _, w := range d.Waits {
		r.seen["wait "+string(w.Reason)] = true
	}
	if before.total+len(d.Create) > int(*r.Set.Spec.Replicas) && len(d.Create) > 0 {
		r.seen["surge"] = true
	}
	if len(d.Claims) > 0 {
		r.seen["claim change"] = true
	}
	if r.Refused && len(d.Create)+len(d.Delete) > 0 && slices.ContainsFunc(d.Edits, func(e cloneset.PodEdit) bool { return e.Revision != "" }) {
		r.seen["beside refusals"] = true
	}
	if before.available < before.total {
		r.seen["not available"] = true
	}
}

// run is one sequence.
type run struct {
	*sim.World
	t *rapid.T
	// images counts the images so far; broken ones are in World.Broken.
	images int
	log    []string
	// seen is what the sequence covers.
	seen map[string]bool
}

func newRun(t *rapid.T) *run {
	s := sim.Set(int32(between(t, 1, 6, "replicas")))
	r := &run{World: sim.New(s), t: t, images: 1, seen: map[string]bool{}}
	if between(t, 0, 2, "unreliable") == 0 {
		// One write in a few fails, as they do when the manager is killed in the middle.
		r.Lose = func() bool {
			lost := between(t, 0, 4, "lose") == 0
			r.seen["lost write"] = r.seen["lost write"] || lost
			return lost
		}
	}
	r.Gates.PartitionRollback = rapid.Bool().Draw(t, "rollback")
	r.Gates.PreparingUpdateAsUpdate = rapid.Bool().Draw(t, "asUpdate")
	r.Change(func(s *set) {
		r.drawPolicy(s)
		r.drawNumbers(s)
		if between(t, 0, 3, "claims") == 0 {
			claimTemplate("1Gi")(s)
			s.Spec.ScaleStrategy.EnablePVCReuse = rapid.Bool().Draw(t, "reuse")
		}
		if between(t, 0, 3, "hooks") == 0 {
			hooked(s)
			s.Spec.Lifecycle = &pub.Lifecycle{}
			if rapid.Bool().Draw(t, "preDelete") {
				s.Spec.Lifecycle.PreDelete = hook()
			}
			if rapid.Bool().Draw(t, "inPlaceUpdate") {
				s.Spec.Lifecycle.InPlaceUpdate = hook()
				s.Spec.Lifecycle.InPlaceUpdate.MarkPodNotReady = rapid.Bool().Draw(t, "mark")
			}
		}
	})
	return r
}

// view is what the invariants compare before and after a reconcile.
type view struct {
	total, available, old int
	specifiedUnavailable  int
	specified             map[string]bool
}

func (r *run) view(updateRevision string) view {
	v := view{specified: map[string]bool{}}
	for n, p := range r.Pods {
		if !pod.IsActive(p) || p.Labels["app"] != "web" || len(p.OwnerReferences) == 0 {
			continue // released pods count for nothing, others even without the controller flag
		}
		v.total++
		if pod.IsAvailable(p, r.Set.Spec.MinReadySeconds, r.Now) {
			v.available++
		} else if pod.IsSpecifiedDelete(p) && lifecycle.StateOf(p) != lifecycle.PreparingDelete {
			v.specifiedUnavailable++
		}
		if !pod.SameRevision(pod.RevisionOf(p), updateRevision) {
			v.old++
		}
		v.specified[n] = pod.IsSpecifiedDelete(p)
	}
	return v
}

// reconcile reconciles once and checks what must hold whatever happened before.
func (r *run) reconcile() cloneset.Decision {
	// Adding and removing pods was refused before: now updates begin beside it, and all of it may succeed at once.
	r.Refused = r.Lose != nil && between(r.t, 0, 1, "refused") == 0
	d := cloneset.Plan(r.Snapshot())
	before := r.view(d.Status.UpdateRevision)
	if len(d.Create) == 0 {
		// nothing to compare
	} else if again := cloneset.Plan(r.Snapshot()); !slices.EqualFunc(d.Create, again.Create, func(a, b cloneset.Creation) bool { return a.Pod.Name == b.Pod.Name }) {
		r.t.Fatalf("a repeated plan creates other pods")
	}
	r.observe(&d, before)
	r.Apply(&d)
	r.log = append(r.log, summary(&d))
	after := r.view(d.Status.UpdateRevision)
	r.checkAvailability(&d, before, after)
	r.checkSurge(&d, before)
	r.checkPartition(&d, before)
	r.checkStreaming(&d, before)
	if int(d.Status.Replicas) != before.total || int(d.Status.AvailableReplicas) != before.available {
		r.t.Fatalf("status %+v of %+v", d.Status, before)
	}
	return d
}

func (r *run) numbers() (replicas, partition, unavailable, surge int) {
	spec := &r.Set.Spec
	replicas = int(*spec.Replicas)
	if !rolling(r.Set).Paused {
		surge = percent.Up(rolling(r.Set).MaxSurge, replicas, 0)
	}
	if surge == 0 {
		unavailable = percent.Up(rolling(r.Set).MaxUnavailable, replicas, 0)
	} else {
		unavailable = percent.Down(rolling(r.Set).MaxUnavailable, replicas, 0)
	}
	partition = min(percent.Up(rolling(r.Set).Partition, replicas, 0), replicas)
	if v := rolling(r.Set).Partition; v.StrVal != "" && v.StrVal != "100%" && partition == replicas && replicas > 1 {
		partition--
	}
	return replicas, partition, unavailable, surge
}

// checkAvailability: a reconcile never takes pods out of service below replicas - maxUnavailable.
func (r *run) checkAvailability(d *cloneset.Decision, before, after view) {
	replicas, _, unavailable, _ := r.numbers()
	if after.available < before.available && after.available < replicas-unavailable {
		r.t.Fatalf("%d pods available before, %d after; %d replicas, maxUnavailable %d: %s", before.available, after.available, replicas, unavailable, summary(d))
	}
}

// checkSurge: a reconcile never creates pods beyond replicas + maxSurge, and never deletes what it creates.
func (r *run) checkSurge(d *cloneset.Decision, before view) {
	replicas, _, _, surge := r.numbers()
	if len(d.Create) > 0 && before.total+len(d.Create) > replicas+surge {
		r.t.Fatalf("%d pods and %d created; %d replicas, maxSurge %d", before.total, len(d.Create), replicas, surge)
	}
}

// checkStreaming: a reconcile never creates so many pods that more are unavailable than the scale limit allows.
func (r *run) checkStreaming(d *cloneset.Decision, before view) {
	limit := r.Set.Spec.ScaleStrategy.MaxUnavailable
	if limit == nil || len(d.Create) == 0 {
		return
	}
	most := percent.Up(limit, int(*r.Set.Spec.Replicas), 0)
	// The spec leaves specified pods out.
	unavailable := before.total - before.available - before.specifiedUnavailable
	if unavailable+len(d.Create) > most {
		r.t.Fatalf("%d unavailable and %d created with limit %d", unavailable, len(d.Create), most)
	}
}

// checkPartition: a reconcile never begins to move more old pods than the partition leaves.
func (r *run) checkPartition(d *cloneset.Decision, before view) {
	_, partition, _, _ := r.numbers()
	begun := 0
	for _, e := range d.Edits {
		switch {
		case e.Kind != cloneset.EditInPlace && e.Kind != cloneset.EditRecreate:
		case e.Revision == d.Status.UpdateRevision: // of the decision: the write of the status may be lost
			begun++
		case !r.Gates.PartitionRollback:
			r.t.Fatalf("pod %s was moved back without the gate", e.Pod.Name)
		}
	}
	if begun > 0 && before.old-begun < partition {
		r.t.Fatalf("%d of %d old pods begun with partition %d", begun, before.old, partition)
	}
}

// finish stops all misfortune and checks that the CloneSet comes to rest where the spec wants it, and that it is really
// at rest.
func (r *run) finish() {
	r.Lose = nil
	if r.Broken[r.Set.Spec.Template.Spec.Containers[0].Image] {
		r.newImage(false)
	}
	for name := range r.Broken {
		r.Broken[name] = false
	}
	r.Change(func(s *set) { s.Spec.Lifecycle = nil })
	for step := range 400 {
		d := r.reconcile()
		changed := d.Changes()
		r.Kubelet()
		if !changed && r.atRest() {
			r.checkRest(&d)
			return
		}
		if !changed {
			// Something waits for time: for availability, or for a terminating pod.
			r.Now = r.Now.Add(time.Second)
		}
		if step == 399 {
			r.t.Fatalf("no rest: %+v\nwaits %v\nlast %v\n%s", r.Set.Status, d.Waits, r.log[max(0, len(r.log)-8):], r.describe())
		}
	}
}

// atRest says whether the CloneSet is where the spec wants it.
func (r *run) atRest() bool {
	replicas, partition, unavailable, surge := r.numbers()
	v := r.view(r.Set.Status.UpdateRevision)
	if v.total != replicas || v.available != replicas {
		return false
	}
	for _, specified := range v.specified {
		// While paused there is no surge, so without unavailability a specified pod has to wait.
		if specified && unavailable+surge > 0 {
			return false
		}
	}
	if rolling(r.Set).Paused {
		return true
	}
	if v.old < partition && r.Gates.PartitionRollback && r.Set.Status.CurrentRevision != r.Set.Status.UpdateRevision {
		return false
	}
	return v.old <= partition
}

// checkRest: at rest nothing is planned, every pod is in state Normal, and old pods have a reason to be old.
func (r *run) checkRest(d *cloneset.Decision) {
	if d := r.reconcile(); d.Changes() {
		d = r.reconcile()
		if d.Changes() {
			r.t.Fatalf("restless: %s", summary(&d))
		}
	}
	waits := map[string]bool{}
	for _, w := range d.Waits {
		waits[w.Pod] = true
	}
	for _, n := range r.Names() {
		p := r.Pods[n]
		if s := lifecycle.StateOf(p); s != lifecycle.Normal {
			r.t.Fatalf("pod %s at rest in state %s", n, s)
		}
		if !r.isUpdated(p) && !waits[n] {
			r.t.Fatalf("no reason why pod %s is old: %v", n, d.Waits)
		}
	}
	claims := 0
	for _, c := range r.Claims {
		if c.DeletionTimestamp == nil {
			claims++
		}
	}
	if len(r.Set.Spec.VolumeClaimTemplates) > 0 && claims < len(r.Names()) {
		r.t.Fatalf("%d claims for %d pods", claims, len(r.Names()))
	}
}

func (r *run) isUpdated(p *corev1.Pod) bool {
	return pod.SameRevision(pod.RevisionOf(p), r.Set.Status.UpdateRevision)
}

func (r *run) describe() string {
	text := fmt.Sprintf("spec %+v %+v\n", *r.Set.Spec.Replicas, rolling(r.Set))
	for name, p := range r.Pods {
		text += fmt.Sprintf("%s rev %s state %s phase %s deleted %v labels %v conditions", name, pod.RevisionOf(p), lifecycle.StateOf(p), p.Status.Phase, p.DeletionTimestamp != nil, p.Labels)
		for _, c := range p.Status.Conditions {
			text += fmt.Sprintf(" %s=%s", c.Type, c.Status)
		}
		text += fmt.Sprintf(" %s %s\n", p.Spec.Containers[0].Image, p.Annotations[pub.InPlaceUpdateStateKey])
	}
	return text
}

func summary(d *cloneset.Decision) string {
	text := ""
	for _, e := range d.Edits {
		text += fmt.Sprintf(" edit%d(%s)", e.Kind, e.Pod.Name)
	}
	for _, e := range d.Create {
		text += " create(" + e.Pod.Name + ")"
	}
	for _, e := range d.Delete {
		text += " delete(" + e.Pod.Name + " " + string(e.Reason) + ")"
	}
	return text
}
