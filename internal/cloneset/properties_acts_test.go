// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/percent"
	"kruise.io/kruise/internal/pod"
)

// bits are 8 random bits with no preference. Rapid's ranges prefer small numbers, which would leave most of what can
// happen untried.
var bits = rapid.Custom(func(t *rapid.T) int {
	n := 0
	for range 8 {
		n <<= 1
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return n
})

// between draws a number from low to high, all alike.
func between(t *rapid.T, low, high int, what string) int {
	return low + bits.Draw(t, what)%(high-low+1)
}

// choose draws one of the values, all alike.
func choose[T any](t *rapid.T, values []T, what string) T {
	return values[bits.Draw(t, what)%len(values)]
}

func (r *run) drawPolicy(s *set) {
	rolling(s).PodUpdatePolicy = choose(r.t, []appsv1beta1.CloneSetPodUpdatePolicyType{
		appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, appsv1beta1.RecreateCloneSetPodUpdatePolicyType, appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
	}, "policy")
}

// drawNumbers draws partition, maxUnavailable and maxSurge, of which the last two are never both zero.
func (r *run) drawNumbers(s *set) {
	rolling(s).Partition = num(choose(r.t, []string{"0", "0", "0", "1", "2", "5", "50%", "99%", "100%"}, "partition"))
	rolling(s).MaxUnavailable = num(choose(r.t, []string{"0", "1", "1", "2", "25%", "100%"}, "maxUnavailable"))
	rolling(s).MaxSurge = num(choose(r.t, []string{"0", "0", "1", "2", "50%"}, "maxSurge"))
	if replicas := int(*s.Spec.Replicas); replicas > 0 &&
		percent.Up(rolling(s).MaxUnavailable, replicas, 0) < 1 && percent.Up(rolling(s).MaxSurge, replicas, 0) < 1 {
		rolling(s).MaxUnavailable = num("1")
	}
}

// acts are the numbers of what act may do, the more often the likelier.
var acts = []int{0, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 11, 12, 13, 14, 15, 16, 17}

// act does one thing that a user, a node or time does, or lets the controller and the kubelet work.
func (r *run) act() {
	switch what := choose(r.t, acts, "act"); what {
	case 16:
		r.toPod("release", func(p *corev1.Pod) { r.ChangePod(p.Name, func(p *corev1.Pod) { p.Labels["app"] = "debug" }) })
	case 17:
		r.toPod("no controller", func(p *corev1.Pod) {
			r.ChangePod(p.Name, func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil })
		})
	case 0:
		r.Change(func(s *set) {
			*s.Spec.Replicas = int32(between(r.t, 0, 6, "replicas"))
			r.drawNumbers(s)
		})
	case 1:
		r.Change(r.drawNumbers)
	case 2:
		r.newImage(between(r.t, 0, 4, "broken") == 0)
	case 3:
		r.Change(image(fmt.Sprintf("app:v%d", between(r.t, 1, r.images, "rollback to"))))
	case 4:
		r.Change(func(s *set) { env(fmt.Sprint(between(r.t, 0, 3, "env")))(s) })
	case 5:
		r.Change(paused(between(r.t, 0, 2, "paused") == 0))
	case 6:
		r.Change(func(s *set) {
			r.drawPolicy(s)
			s.Spec.MinReadySeconds = choose(r.t, []int32{0, 0, 10}, "minReady")
			if between(r.t, 0, 5, "streaming") == 0 {
				s.Spec.ScaleStrategy.MaxUnavailable = num(choose(r.t, []string{"1", "2", "100%"}, "limit"))
			} else {
				s.Spec.ScaleStrategy.MaxUnavailable = nil
			}
		})
	case 7:
		r.toPod("delete", func(p *corev1.Pod) { r.Delete(p.Name) })
	case 8:
		r.toPod("specify", func(p *corev1.Pod) {
			r.ChangePod(p.Name, func(p *corev1.Pod) { p.Labels[pub.SpecifiedDeleteKey] = "true" })
		})
	case 9:
		r.toPod("fail", func(p *corev1.Pod) {
			r.ChangePod(p.Name, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		})
	case 10:
		r.toPod("unready", func(p *corev1.Pod) {
			r.ChangePod(p.Name, func(p *corev1.Pod) {
				pod.SetCondition(p, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}, r.Now)
			})
		})
	case 11:
		r.toPod("release the hook", func(p *corev1.Pod) {
			r.ChangePod(p.Name, func(p *corev1.Pod) {
				p.Labels[hookLabel] = choose(r.t, []string{"true", "false"}, "hook")
			})
		})
	case 12:
		r.Now = r.Now.Add(time.Duration(between(r.t, 1, 30, "seconds")) * time.Second)
	case 13:
		r.toPod("sync", func(p *corev1.Pod) { r.Sync(p.Name) })
	default:
		r.reconcile()
		if what == 15 {
			r.Kubelet()
		}
	}
}

// rounds lets the controller and the kubelet work, so that what happens happens at all stages of a rollout.
func (r *run) rounds(n int) {
	for range n {
		r.reconcile()
		r.Kubelet()
	}
}

func (r *run) newImage(broken bool) {
	r.images++
	name := fmt.Sprintf("app:v%d", r.images)
	r.Broken[name] = broken
	r.Change(image(name))
}

func (r *run) toPod(what string, f func(*corev1.Pod)) {
	if names := r.Names(); len(names) > 0 {
		f(r.Pods[choose(r.t, names, what)])
	}
}
