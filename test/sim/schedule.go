// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Failure is a schedule in which an invariant broke. Run with the same seed and bug gives the same one again.
type Failure struct {
	Seed uint64
	Text string
	// Trace is what happened, line by line.
	Trace string
}

// Error implements error.
func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d: %s", f.Seed, f.Text)
}

// Run runs the schedule of a seed. It returns a *Failure if an invariant broke, with the trace of what happened.
func Run(seed uint64, bug Bug) (Stats, error) {
	stats, failure := run(seed, bug, false)
	if failure == nil {
		return stats, nil
	}
	if _, again := run(seed, bug, true); again != nil && again.Text == failure.Text {
		return stats, again
	}
	failure.Text += " (and it did not happen again: the simulation is not deterministic)"
	return stats, failure
}

func run(seed uint64, bug Bug, traced bool) (stats Stats, failure *Failure) {
	w := newWorld(seed, bug, traced)
	defer func() {
		stats = w.stats
		stats.Schedules = 1
		switch r := recover().(type) {
		case nil:
		case violation:
			failure = &Failure{Seed: seed, Text: r.text}
			if traced {
				failure.Trace = w.trace.String()
			}
		default:
			if traced {
				fmt.Println(w.trace.String())
			}
			panic(fmt.Sprintf("seed %d: %v", seed, r))
		}
	}()
	w.play()
	return
}

// play is a schedule from its beginning to rest.
func (w *World) play() {
	w.misfortune()
	cs := w.firstSet()
	stored, err := w.store.create(cs)
	if err != nil {
		panic(err)
	}
	w.log("created with %s", describe(stored.(*appsv1beta1.CloneSet)))
	w.start()
	// Of the planted bugs that are hard to find, schedules of this length find two to three times as many in the same time
	// as those of half of it: much has to come together.
	for range 80 + w.rng.IntN(200) {
		w.act()
		w.account()
	}
	w.settle()
}

// misfortune draws what goes wrong in this schedule.
func (w *World) misfortune() {
	w.laggard = pick(w, 0, 30, 60, 90)
	switch w.rng.IntN(4) {
	case 0: // nothing
	case 1:
		w.crashAt = 1 + w.rng.IntN(60)
	case 2:
		w.oneIn, w.faults = pick(w, 5, 20), []fault{failBefore, conflict, loseAnswer, tooMany}
	case 3:
		w.oneIn, w.faults = pick(w, 10, 30), []fault{failBefore, conflict, loseAnswer, tooMany, crashBefore, crashAfter}
	}
}

func (w *World) firstSet() *appsv1beta1.CloneSet {
	web := map[string]string{"app": "web"}
	cs := &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: setName},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: ptr.To(int32(1 + w.rng.IntN(6))),
			Selector: &metav1.LabelSelector{MatchLabels: web},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](30),
					Containers:                    []corev1.Container{{Name: "app", Image: "app:v1"}},
				},
			},
			RevisionHistoryLimit: ptr.To(int32(w.rng.IntN(4))),
			UpdateStrategy: appsv1beta1.CloneSetUpdateStrategy{
				Type: appsv1beta1.RollingUpdateCloneSetUpdateStrategyType, RollingUpdate: &appsv1beta1.RollingUpdateCloneSetStrategy{},
			},
		},
	}
	if w.oneOf(3) {
		cs.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
		cs.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		cs.Spec.ScaleStrategy.EnablePVCReuse = w.oneOf(2)
	}
	if w.oneOf(4) {
		cs.Spec.Template.Labels["block"] = "true"
		h := &pub.LifecycleHook{LabelsHandler: map[string]string{"block": "true"}, MarkPodNotReady: w.oneOf(2)}
		cs.Spec.Lifecycle = &pub.Lifecycle{}
		if w.oneOf(2) {
			cs.Spec.Lifecycle.PreDelete = h
		} else {
			cs.Spec.Lifecycle.InPlaceUpdate = h
		}
	}
	w.drawPolicy(cs)
	w.drawNumbers(cs)
	return cs
}

func (w *World) drawPolicy(cs *appsv1beta1.CloneSet) {
	r := rolling(cs)
	r.PodUpdatePolicy = pick(w, appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
		appsv1beta1.RecreateCloneSetPodUpdatePolicyType)
	if w.oneOf(5) {
		r.InPlaceUpdateStrategy = &pub.InPlaceUpdateStrategy{GracePeriodSeconds: int32(w.rng.IntN(4))}
	}
}

func rolling(cs *appsv1beta1.CloneSet) *appsv1beta1.RollingUpdateCloneSetStrategy {
	if cs.Spec.UpdateStrategy.RollingUpdate == nil {
		cs.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{}
	}
	return cs.Spec.UpdateStrategy.RollingUpdate
}

func (w *World) drawNumbers(cs *appsv1beta1.CloneSet) {
	r := rolling(cs)
	num := func(of ...string) *intstr.IntOrString { return ptr.To(intstr.Parse(pick(w, of...))) }
	r.Partition = num("0", "0", "0", "1", "2", "50%", "99%", "100%")
	r.MaxUnavailable = num("0", "1", "1", "2", "25%", "100%")
	r.MaxSurge = num("0", "0", "0", "1", "2", "50%")
	admissible(cs)
}

// admissible gives a CloneSet whose pods could never be updated, which admission refuses, something to go on with.
func admissible(cs *appsv1beta1.CloneSet) {
	if n := numbersOf(cs); n.maxUnavailable < 1 && n.maxSurge < 1 {
		rolling(cs).MaxUnavailable = ptr.To(intstr.FromInt32(1))
	}
}

// act lets one thing happen.
func (w *World) act() {
	switch n := w.rng.IntN(100); {
	case n < 34:
		w.someEvents()
	case n < 54:
		if w.queued {
			w.reconcile()
		}
	case n < 80:
		if name, ok := w.somePod(); ok && w.follow(name) {
			w.log("kubelet: %s", name)
		}
	case n < 86:
		w.advance(pick(w, 10*time.Millisecond, 100*time.Millisecond, time.Second, 3*time.Second, 31*time.Second))
	case n < 89:
		w.collect()
	case n < 91:
		w.mishap()
	default:
		w.user()
	}
}

// someEvents shows the process what it has not seen, or lets it wait.
func (w *World) someEvents() {
	for k := range kinds {
		for w.client.view.behind(k) > 0 && w.rng.IntN(100) >= w.laggard {
			w.deliver(k)
		}
	}
}

func (w *World) somePod() (string, bool) {
	names := w.store.names(pods)
	if len(names) == 0 {
		return "", false
	}
	return names[w.rng.IntN(len(names))], true
}

// mishap is what nodes do to pods.
func (w *World) mishap() {
	name, ok := w.somePod()
	if !ok {
		return
	}
	p := w.store.pod(name)
	switch w.rng.IntN(3) {
	case 0:
		w.log("node: %s fails", name)
		w.store.updatePod(name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	default:
		w.log("node: %s is sick or well", name)
		w.sick[p.UID] = !w.sick[p.UID]
	}
}

// user is what users do.
func (w *World) user() {
	switch w.rng.IntN(17) {
	case 14, 15, 16:
		w.operate()
	case 0, 1:
		w.change("replicas", func(cs *appsv1beta1.CloneSet) {
			cs.Spec.Replicas = ptr.To(int32(w.rng.IntN(7)))
			w.drawNumbers(cs)
		})
	case 2, 3:
		w.change("numbers", w.drawNumbers)
	case 4, 5, 6:
		w.images++
		w.change("image", func(cs *appsv1beta1.CloneSet) {
			cs.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("app:v%d", w.images)
		})
	case 7:
		w.change("back", func(cs *appsv1beta1.CloneSet) {
			cs.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("app:v%d", 1+w.rng.IntN(w.images))
		})
	case 8:
		w.change("environment", func(cs *appsv1beta1.CloneSet) {
			cs.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "e", Value: fmt.Sprint(w.rng.IntN(3))}}
		})
	case 9:
		w.change("annotation", func(cs *appsv1beta1.CloneSet) {
			cs.Spec.Template.Annotations = map[string]string{"note": fmt.Sprint(w.rng.IntN(3))}
		})
	case 10:
		w.change("pause or policy", func(cs *appsv1beta1.CloneSet) {
			w.drawPolicy(cs)
			rolling(cs).Paused = w.oneOf(3)
			cs.Spec.MinReadySeconds = pick[int32](w, 0, 0, 5)
			cs.Spec.UpdateStrategy.Type = pick(w, appsv1beta1.RollingUpdateCloneSetUpdateStrategyType,
				appsv1beta1.RollingUpdateCloneSetUpdateStrategyType, appsv1beta1.OnDeleteCloneSetUpdateStrategyType)
			admissible(cs)
		})
	default:
		w.userOfPods()
	}
}

func (w *World) userOfPods() {
	name, ok := w.somePod()
	if !ok || !active(w.store.set(), w.store.pod(name)) {
		return
	}
	switch w.rng.IntN(5) {
	case 0:
		w.log("user: deletes %s", name)
		_, _ = w.store.delete(pods, name, &client.DeleteOptions{})
	case 1:
		w.log("user: marks %s for deletion", name)
		w.store.updatePod(name, func(p *corev1.Pod) { p.Labels[pub.SpecifiedDeleteKey] = "true" })
	case 2:
		w.change("podsToDelete "+name, func(cs *appsv1beta1.CloneSet) { cs.Spec.ScaleStrategy.PodsToDelete = []string{name, "web-none"} })
	case 3:
		w.log("user: takes the hook of %s off, or puts it back", name)
		w.store.updatePod(name, func(p *corev1.Pod) { p.Labels["block"] = pick(w, "true", "false") })
	case 4:
		if w.oneOf(3) {
			w.log("user: takes %s out of the selector", name)
			w.store.updatePod(name, func(p *corev1.Pod) { p.Labels["app"] = "debug" })
		}
	}
}

// change changes the CloneSet as a user would.
func (w *World) change(what any, f func(*appsv1beta1.CloneSet)) {
	w.store.update(sets, setName, func(o client.Object) {
		cs := o.(*appsv1beta1.CloneSet)
		before := cs.Spec.DeepCopy()
		f(cs)
		if !equality.Semantic.DeepEqual(before, &cs.Spec) {
			cs.Generation++
			if w.trace != nil {
				w.log("user: %s: %s", what, describe(cs))
			}
		}
	})
}

func describe(cs *appsv1beta1.CloneSet) string {
	n := numbersOf(cs)
	hooks := ""
	if l := cs.Spec.Lifecycle; l != nil {
		if l.PreDelete != nil {
			hooks += " preDelete"
		}
		if l.InPlaceUpdate != nil {
			hooks += " inPlaceUpdate"
		}
	}
	return fmt.Sprintf("%d replicas, partition %d, maxUnavailable %d, maxSurge %d, in place %v, paused %v, OnDelete %v, %d claims, reuse %v, hooks%s, template %s",
		n.replicas, n.partition, n.maxUnavailable, n.maxSurge, n.inPlace, n.paused, n.onDelete, len(cs.Spec.VolumeClaimTemplates), cs.Spec.ScaleStrategy.EnablePVCReuse,
		hooks, templateKey(&cs.Spec.Template))
}

// difference says what became of a pod.
func difference(before, after client.Object) string {
	b, _ := before.(*corev1.Pod)
	a, ok := after.(*corev1.Pod)
	if !ok || a == nil {
		return ""
	}
	var out []string
	if b != nil && a.DeletionTimestamp != nil && b.DeletionTimestamp == nil {
		out = append(out, "terminates")
	}
	if b == nil || hashOf(a) != hashOf(b) {
		out = append(out, "revision "+hashOf(a))
	}
	if b == nil || a.Labels[pub.LifecycleStateKey] != b.Labels[pub.LifecycleStateKey] {
		out = append(out, "state "+a.Labels[pub.LifecycleStateKey])
	}
	if b != nil && a.Labels[pub.SpecifiedDeleteKey] != b.Labels[pub.SpecifiedDeleteKey] {
		out = append(out, "marked for deletion")
	}
	if b != nil && isTrue(a, pub.InPlaceUpdateReady) != isTrue(b, pub.InPlaceUpdateReady) {
		out = append(out, fmt.Sprintf("gate %v", isTrue(a, pub.InPlaceUpdateReady)))
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, ", ") + ")"
}
