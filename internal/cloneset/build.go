// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/pod/lifecycle"
	"kruise.io/kruise/internal/revision"
)

// podMaker makes the pods of one plan. It reads each revision once.
type podMaker struct {
	p         *planner
	owner     metav1.OwnerReference
	revisions map[string]*revisionData
}

// revisionData is what a revision says about its pods.
type revisionData struct {
	template *corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	err      error
}

func newPodMaker(p *planner) *podMaker {
	return &podMaker{p: p, owner: ownerReference(p.cs), revisions: make(map[string]*revisionData, 2)}
}

// data reads a revision. Claim templates are those the revision remembers; one that remembers none, written by
// OpenKruise, is built with those of the spec (weakness 16).
func (m *podMaker) data(r *appsv1.ControllerRevision) *revisionData {
	if d, ok := m.revisions[r.Name]; ok {
		return d
	}
	d := &revisionData{claims: m.p.cs.Spec.VolumeClaimTemplates}
	m.revisions[r.Name] = d
	if r.Name == m.p.s.Revisions.Update.Name {
		d.template = &m.p.cs.Spec.Template
		return d
	}
	d.template, d.err = revision.Template(r)
	if claims, ok := revision.Claims(r); ok {
		d.claims = claims
	}
	return d
}

// make makes a pod at revision r with the given id, and those of its claims that are not among existing.
func (m *podMaker) make(r *appsv1.ControllerRevision, id string, existing []*corev1.PersistentVolumeClaim) (Creation, error) {
	d := m.data(r)
	if d.err != nil {
		return Creation{}, fmt.Errorf("make a pod at revision %s: %w", r.Name, d.err)
	}
	cs := m.p.cs
	template := d.template.DeepCopy()
	pd := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       cs.Namespace,
			Name:            cs.Name + "-" + id,
			GenerateName:    cs.Name + "-",
			Labels:          withLabels(template.Labels, m.p.revisionLabels(r)),
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{m.owner},
		},
		Spec: template.Spec,
	}
	forget(pd)
	pd.Labels[appsv1beta1.CloneSetInstanceID] = id
	lifecycle.SetState(pd, lifecycle.PreparingNormal, m.p.s.Now)
	addGate(pd, pub.InPlaceUpdateReady)
	if m.p.s.Gates.PodReadinessGate {
		addGate(pd, pub.KruisePodReady)
	}
	c := Creation{Pod: pd}
	for n := range d.claims {
		claim := m.claim(&d.claims[n], id)
		setVolume(&pd.Spec, d.claims[n].Name, claim.Name)
		if !slices.ContainsFunc(existing, func(e *corev1.PersistentVolumeClaim) bool { return e.Name == claim.Name }) {
			c.Claims = append(c.Claims, claim)
		}
	}
	return c, nil
}

// forget takes off a new pod what steers one pod only. It is in a template that somebody copied from a pod, and would have
// every pod deleted as soon as it is created, for ever, or wait for an update that nobody began.
func forget(pd *corev1.Pod) {
	delete(pd.Labels, pub.SpecifiedDeleteKey)
	for _, key := range []string{
		pub.InPlaceUpdateStateKey, pub.InPlaceUpdateStateKeyOld, pub.InPlaceUpdateGraceKey, pub.InPlaceUpdateGraceKeyOld,
		pub.RuntimeContainersMetaKey, lifecycle.NotYetNormalKey, inplace.ContainersRestartCountKey, inplace.PodRestartCountKey,
	} {
		delete(pd.Annotations, key)
	}
}

func addGate(pd *corev1.Pod, t corev1.PodConditionType) {
	if !pod.HasGate(pd, t) {
		pd.Spec.ReadinessGates = append(pd.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: t})
	}
}

// claim makes a claim of the pod with the given id (cloneset 5.10).
func (m *podMaker) claim(template *corev1.PersistentVolumeClaim, id string) *corev1.PersistentVolumeClaim {
	cs := m.p.cs
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       cs.Namespace,
			Name:            template.Name + "-" + cs.Name + "-" + id,
			Labels:          withLabels(maps.Clone(template.Labels), cs.Spec.Selector.MatchLabels),
			Annotations:     maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{m.owner},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	c.Labels[appsv1beta1.CloneSetInstanceID] = id
	return c
}

// setVolume mounts a claim under the name of its template, in place of a volume of the template with that name.
func setVolume(spec *corev1.PodSpec, name, claim string) {
	v := corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
	for i := range spec.Volumes {
		if spec.Volumes[i].Name == name {
			spec.Volumes[i] = v
			return
		}
	}
	spec.Volumes = append(spec.Volumes, v)
}

// revisionLabels are the labels that say at which revision a pod is (cloneset 4.1).
func (p *planner) revisionLabels(r *appsv1.ControllerRevision) map[string]string {
	value := r.Name
	if p.s.Gates.ShortHash {
		value = pod.ShortHash(r.Name)
	}
	return map[string]string{
		appsv1.ControllerRevisionHashLabelKey:  value,
		appsv1.DefaultDeploymentUniqueLabelKey: pod.ShortHash(r.Name),
	}
}

func withLabels(base, more map[string]string) map[string]string {
	if base == nil {
		base = make(map[string]string, len(more)+3)
	}
	maps.Copy(base, more)
	return base
}
