// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"maps"
	"strconv"

	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

var cloneSet = newKind("apps.kruise.io", "CloneSet", cloneSetToHub, cloneSetFromHub).
	withOpaque([]string{"spec", "template"}, []string{"spec", "volumeClaimTemplates"})

// cloneSetToHub follows cloneset 3.3.
func cloneSetToHub(in *v1alpha1.CloneSet, out *v1beta1.CloneSet) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)

	out.Spec.ScaleStrategy.EnablePVCReuse = !in.Spec.ScaleStrategy.DisablePVCReuse
	if in.Labels[v1beta1.CloneSetScalingExcludePreparingDeleteKey] == "true" {
		out.Spec.ScaleStrategy.ExcludePreparingDelete = true
		out.Labels = maps.Clone(in.Labels)
		delete(out.Labels, v1beta1.CloneSetScalingExcludePreparingDeleteKey)
	}

	from := &in.Spec.UpdateStrategy
	if from.Type == v1alpha1.OnDeleteCloneSetUpdateStrategyType {
		out.Spec.UpdateStrategy = v1beta1.CloneSetUpdateStrategy{Type: v1beta1.OnDeleteCloneSetUpdateStrategyType}
		return
	}
	rolling := &v1beta1.RollingUpdateCloneSetStrategy{}
	assign(rolling, *from)
	rolling.InPlaceUpdateStrategy = inPlaceStrategyToHub(from.InPlaceUpdateStrategy, out)
	switch policy := v1beta1.CloneSetPodUpdatePolicyType(from.Type); policy {
	case v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, v1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType:
		rolling.PodUpdatePolicy = policy
	default:
		rolling.PodUpdatePolicy = v1beta1.RecreateCloneSetPodUpdatePolicyType
	}
	out.Spec.UpdateStrategy = v1beta1.CloneSetUpdateStrategy{
		Type:          v1beta1.RollingUpdateCloneSetUpdateStrategyType,
		RollingUpdate: rolling,
	}
}

// inPlaceStrategyToHub moves the pre-download annotations that can be read into the strategy, so that they don't stay
// behind to bring a removed field back. The others stay.
func inPlaceStrategyToHub(in *pub.InPlaceUpdateStrategy, out *v1beta1.CloneSet) *pub.InPlaceUpdateStrategy {
	strategy := &pub.InPlaceUpdateStrategy{}
	present := in != nil
	if present {
		strategy.GracePeriodSeconds = in.GracePeriodSeconds
	}
	take := func(key string, read func(string) bool) {
		text := out.Annotations[key]
		present = present || text != ""
		if text != "" && read(text) {
			removeAnnotation(out, key)
		}
	}
	number := func(field **int32) func(string) bool {
		return func(text string) bool {
			n, ok := parseInt32(text)
			if ok {
				*field = &n
			}
			return ok
		}
	}
	take(v1alpha1.ImagePreDownloadParallelismKey, func(text string) bool {
		v := intstr.Parse(text)
		strategy.ImagePreDownloadParallelism = &v
		return true
	})
	take(v1alpha1.ImagePreDownloadTimeoutSecondsKey, number(&strategy.ImagePreDownloadTimeoutSeconds))
	take(v1alpha1.ImagePreDownloadMinUpdatedReadyPodsKey, number(&strategy.ImagePreDownloadMinUpdatedReadyPods))
	if !present {
		return nil
	}
	return strategy
}

// cloneSetFromHub follows cloneset 3.3.
func cloneSetFromHub(in *v1beta1.CloneSet, out *v1alpha1.CloneSet) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)

	out.Spec.ScaleStrategy.DisablePVCReuse = !in.Spec.ScaleStrategy.EnablePVCReuse
	if in.Spec.ScaleStrategy.ExcludePreparingDelete {
		out.Labels = maps.Clone(in.Labels)
		if out.Labels == nil {
			out.Labels = map[string]string{}
		}
		out.Labels[v1beta1.CloneSetScalingExcludePreparingDeleteKey] = "true"
	}

	to := &out.Spec.UpdateStrategy
	*to = v1alpha1.CloneSetUpdateStrategy{}
	rolling := in.Spec.UpdateStrategy.RollingUpdate
	if rolling != nil {
		assign(to, *rolling)
		to.InPlaceUpdateStrategy = inPlaceStrategyFromHub(rolling.InPlaceUpdateStrategy, out)
	}
	to.Type = v1alpha1.RecreateCloneSetUpdateStrategyType
	switch {
	case in.Spec.UpdateStrategy.Type == v1beta1.OnDeleteCloneSetUpdateStrategyType:
		to.Type = v1alpha1.OnDeleteCloneSetUpdateStrategyType
	case rolling == nil:
	case rolling.PodUpdatePolicy == v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
		rolling.PodUpdatePolicy == v1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType:
		to.Type = v1alpha1.CloneSetUpdateStrategyType(rolling.PodUpdatePolicy)
	}
}

// inPlaceStrategyFromHub moves the pre-download fields of the strategy to annotations.
func inPlaceStrategyFromHub(in *pub.InPlaceUpdateStrategy, out *v1alpha1.CloneSet) *pub.InPlaceUpdateStrategy {
	if in == nil {
		return nil
	}
	if v := in.ImagePreDownloadParallelism; v != nil {
		setAnnotation(out, v1alpha1.ImagePreDownloadParallelismKey, v.String())
	}
	if v := in.ImagePreDownloadTimeoutSeconds; v != nil {
		setAnnotation(out, v1alpha1.ImagePreDownloadTimeoutSecondsKey, strconv.Itoa(int(*v)))
	}
	if v := in.ImagePreDownloadMinUpdatedReadyPods; v != nil {
		setAnnotation(out, v1alpha1.ImagePreDownloadMinUpdatedReadyPodsKey, strconv.Itoa(int(*v)))
	}
	if in.GracePeriodSeconds == 0 {
		return nil
	}
	return &pub.InPlaceUpdateStrategy{GracePeriodSeconds: in.GracePeriodSeconds}
}
