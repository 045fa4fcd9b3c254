// SPDX-License-Identifier: Apache-2.0

package template

import (
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/capabilities"
)

// Validator validates pod templates as the apiserver would validate them in a workload of its own.
type Validator struct {
	// AllowPrivileged accepts privileged containers (flag --allow-privileged).
	AllowPrivileged bool
}

// allowPrivileged switches the library's process-wide check off, once: Validator has its own.
var allowPrivileged = sync.OnceFunc(func() { capabilities.Setup(true, 0) })

// Validate returns what is wrong with template t, found at path. Rules that an older version of the template already
// broke are relaxed where the apiserver does so; old may be nil. The claims of the same workload count as volumes: one
// named like a volume of the template is a duplicate (cloneset 3.1); such errors are reported at claimsPath.
func (v Validator) Validate(t, old *corev1.PodTemplateSpec, claims []corev1.PersistentVolumeClaim, path, claimsPath *field.Path) field.ErrorList {
	allowPrivileged()
	internal, err := convert(t, claims)
	if err != nil {
		return field.ErrorList{field.Invalid(path, "", err.Error())}
	}
	var oldInternal *core.PodTemplateSpec
	if old != nil {
		if oldInternal, err = convert(old, nil); err != nil {
			oldInternal = nil
		}
	}
	options := pod.GetValidationOptionsFromPodTemplate(internal, oldInternal)
	errs := validation.ValidatePodTemplateSpec(internal, path, options)
	relocateClaimErrors(errs, len(t.Spec.Volumes), len(claims), path, claimsPath)
	if !v.AllowPrivileged {
		errs = append(errs, privilegedContainers(t.Spec.Containers, path.Child("spec", "containers"))...)
		errs = append(errs, privilegedContainers(t.Spec.InitContainers, path.Child("spec", "initContainers"))...)
	}
	return errs
}

// convert returns the defaulted, internal form of t with a volume per claim.
func convert(t *corev1.PodTemplateSpec, claims []corev1.PersistentVolumeClaim) (*core.PodTemplateSpec, error) {
	copied := t.DeepCopy()
	SetDefaults(copied, false)
	for i := range claims {
		copied.Spec.Volumes = append(copied.Spec.Volumes, corev1.Volume{
			Name: claims[i].Name,
			VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claims[i].Name},
			},
		})
	}
	var out core.PodTemplateSpec
	if err := corev1conversion.Convert_v1_PodTemplateSpec_To_core_PodTemplateSpec(copied, &out, nil); err != nil {
		return nil, fmt.Errorf("not a valid pod template: %w", err)
	}
	return &out, nil
}

// relocateClaimErrors makes errors about the volumes that stand for claims speak about the claims.
func relocateClaimErrors(errs field.ErrorList, volumes, claims int, path, claimsPath *field.Path) {
	for i := range claims {
		volume := path.Child("spec", "volumes").Index(volumes + i).String()
		for _, e := range errs {
			if e.Field == volume || strings.HasPrefix(e.Field, volume+".") {
				e.Field = claimsPath.Index(i).Child("metadata", "name").String()
			}
		}
	}
}

func privilegedContainers(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		if s := containers[i].SecurityContext; s != nil && s.Privileged != nil && *s.Privileged {
			errs = append(errs, field.Forbidden(path.Index(i).Child("securityContext", "privileged"), "disallowed by cluster policy"))
		}
	}
	return errs
}

// ValidateForWorkload is Validate plus what a workload that keeps pods running demands: restartPolicy Always, no
// activeDeadlineSeconds, and labels that the (valid, not empty) selector matches.
func (v Validator) ValidateForWorkload(t, old *corev1.PodTemplateSpec, selector labels.Selector, claims []corev1.PersistentVolumeClaim, path, claimsPath *field.Path) field.ErrorList {
	var errs field.ErrorList
	if selector != nil && !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, v.Validate(t, old, claims, path, claimsPath)...)
	if policy := t.Spec.RestartPolicy; policy != "" && policy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), policy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in a workload's template is not supported"))
	}
	return errs
}
