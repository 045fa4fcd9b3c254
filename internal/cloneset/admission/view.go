// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	kjson "sigs.k8s.io/json"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// version is a served version of CloneSet.
type version string

const (
	v1alpha1Version version = "v1alpha1"
	v1beta1Version  version = "v1beta1"
)

// view is what the rules look at: a CloneSet of either version, with the paths of the version that was sent. There is
// one set of rules for both versions (cloneset, weakness 2).
type view struct {
	meta     metav1.ObjectMeta
	replicas int
	selector *metav1.LabelSelector
	template *corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim

	podsToDelete        []string
	scaleMaxUnavailable *intstr.IntOrString

	minReadySeconds         int32
	progressDeadlineSeconds *int32

	strategyError *field.Error
	onDelete      bool
	policy        string

	partition, maxUnavailable, maxSurge *intstr.IntOrString

	priority *pub.UpdatePriorityStrategy
	scatter  pub.UpdateScatterStrategy
	inPlace  *pub.InPlaceUpdateStrategy

	// rolling is the path of the fields that tune rolling updates.
	rolling *field.Path
	// preDownloadAnnotations are values of this version that travel in annotations.
	preDownloadAnnotations bool
}

const (
	reCreate          = string(v1beta1.RecreateCloneSetPodUpdatePolicyType)
	inPlaceIfPossible = string(v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType)
	inPlaceOnly       = string(v1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType)
	onDelete          = string(v1beta1.OnDeleteCloneSetUpdateStrategyType)
	rollingUpdate     = string(v1beta1.RollingUpdateCloneSetUpdateStrategyType)
)

var (
	specPath     = field.NewPath("spec")
	strategyPath = specPath.Child("updateStrategy")
)

// decode reads the JSON of a CloneSet of version v.
func decode(raw []byte, v version) (*view, error) {
	switch v {
	case v1alpha1Version:
		var set v1alpha1.CloneSet
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &set); err != nil {
			return nil, err
		}
		return viewOfV1alpha1(&set), nil
	case v1beta1Version:
		var set v1beta1.CloneSet
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &set); err != nil {
			return nil, err
		}
		return viewOfV1beta1(&set), nil
	}
	return nil, fmt.Errorf("unknown version %q of CloneSet", v)
}

func viewOfV1alpha1(set *v1alpha1.CloneSet) *view {
	s, u := &set.Spec, &set.Spec.UpdateStrategy
	out := &view{
		meta: set.ObjectMeta, replicas: replicasOf(s.Replicas), selector: s.Selector, template: &s.Template, claims: s.VolumeClaimTemplates,
		podsToDelete: s.ScaleStrategy.PodsToDelete, scaleMaxUnavailable: s.ScaleStrategy.MaxUnavailable,
		minReadySeconds: s.MinReadySeconds, progressDeadlineSeconds: s.ProgressDeadlineSeconds,
		partition: u.Partition, maxUnavailable: u.MaxUnavailable, maxSurge: u.MaxSurge,
		priority: u.PriorityStrategy, scatter: u.ScatterStrategy, inPlace: u.InPlaceUpdateStrategy,
		rolling: strategyPath, preDownloadAnnotations: true,
	}
	out.onDelete, out.policy = string(u.Type) == onDelete, string(u.Type)
	out.strategyError = supported(strategyPath.Child("type"), string(u.Type), reCreate, inPlaceIfPossible, inPlaceOnly, onDelete)
	return out
}

func viewOfV1beta1(set *v1beta1.CloneSet) *view {
	s, u := &set.Spec, &set.Spec.UpdateStrategy
	out := &view{
		meta: set.ObjectMeta, replicas: replicasOf(s.Replicas), selector: s.Selector, template: &s.Template, claims: s.VolumeClaimTemplates,
		podsToDelete: s.ScaleStrategy.PodsToDelete, scaleMaxUnavailable: s.ScaleStrategy.MaxUnavailable,
		minReadySeconds: s.MinReadySeconds, progressDeadlineSeconds: s.ProgressDeadlineSeconds,
		onDelete: string(u.Type) == onDelete,
		rolling:  strategyPath.Child("rollingUpdate"),
	}
	out.strategyError = supported(strategyPath.Child("type"), string(u.Type), rollingUpdate, onDelete)
	if r := u.RollingUpdate; r != nil {
		out.policy, out.partition, out.maxUnavailable, out.maxSurge = string(r.PodUpdatePolicy), r.Partition, r.MaxUnavailable, r.MaxSurge
		out.priority, out.scatter, out.inPlace = r.PriorityStrategy, r.ScatterStrategy, r.InPlaceUpdateStrategy
		if out.strategyError == nil {
			out.strategyError = supported(out.rolling.Child("podUpdatePolicy"), out.policy, reCreate, inPlaceIfPossible, inPlaceOnly)
		}
	}
	return out
}

// replicasOf is spec.replicas, 1 if absent.
func replicasOf(given *int32) int { return int(ptr.Deref(given, 1)) }

// supported returns an error if value is neither empty nor one of the values.
func supported(path *field.Path, value string, values ...string) *field.Error {
	if value == "" {
		return nil
	}
	for _, known := range values {
		if value == known {
			return nil
		}
	}
	return field.NotSupported(path, value, values)
}
