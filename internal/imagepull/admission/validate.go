// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull"
	"kruise.io/kruise/internal/imagepull/reference"
)

// maxImages is the number of images a list may have.
const maxImages = 255

// validateJob applies the rules of image-pulling 3.1 to an ImagePullJob.
func validateJob(job, old *appsv1beta1.ImagePullJob, _ *Options) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateImage(job.Spec.Image, spec.Child("image"))
	errs = append(errs, validateTemplate(&job.Spec.ImagePullJobTemplate, spec)...)
	errs = append(errs, validateRepeat(job.Annotations, &job.Spec.ImagePullJobTemplate)...)
	if old != nil && !samePullSecrets(old.Spec.PullSecrets, job.Spec.PullSecrets) {
		errs = append(errs, field.Forbidden(spec.Child("pullSecrets"), "spec.pullSecrets is immutable"))
	}
	return errs
}

// validateList applies the rules of image-pulling 3.1 to an ImageListPullJob.
func validateList(job, _ *appsv1beta1.ImageListPullJob, _ *Options) field.ErrorList {
	spec := field.NewPath("spec")
	images := spec.Child("images")
	var errs field.ErrorList
	switch n := len(job.Spec.Images); {
	case n == 0:
		errs = append(errs, field.Required(images, "at least one image"))
	case n > maxImages:
		errs = append(errs, field.TooMany(images, n, maxImages))
	}
	seen := map[string]bool{}
	for i, image := range job.Spec.Images {
		if seen[image] {
			errs = append(errs, field.Duplicate(images.Index(i), image))
		}
		seen[image] = true
		errs = append(errs, validateImage(image, images.Index(i))...)
	}
	if value, ok := job.Annotations[imagepull.ListParallelismAnnotation]; ok {
		if _, ok := imagepull.ParseListParallelism(value); !ok {
			at := field.NewPath("metadata", "annotations").Key(imagepull.ListParallelismAnnotation)
			errs = append(errs, field.Invalid(at, value, "must be a number greater than 0"))
		}
	}
	errs = append(errs, validateRepeat(job.Annotations, &job.Spec.ImagePullJobTemplate)...)
	return append(errs, validateTemplate(&job.Spec.ImagePullJobTemplate, spec)...)
}

// validateRepeat applies the rules of the annotation that says how often a job of type Never pulls.
func validateRepeat(annotations map[string]string, t *appsv1beta1.ImagePullJobTemplate) field.ErrorList {
	value, there := annotations[imagepull.RepeatAnnotation]
	if !there {
		return nil
	}
	at := field.NewPath("metadata", "annotations").Key(imagepull.RepeatAnnotation)
	if _, ok := imagepull.ParseRepeat(value); !ok {
		return field.ErrorList{field.Invalid(at, value, fmt.Sprintf("must be a duration from %s to %s, such as 6h", imagepull.MinRepeat, imagepull.MaxRepeat))}
	}
	if t.CompletionPolicy.Type != appsv1beta1.Never {
		return field.ErrorList{field.Forbidden(at, "only with completionPolicy.type Never")}
	}
	return nil
}

func validateImage(image string, at *field.Path) field.ErrorList {
	if image == "" {
		return field.ErrorList{field.Required(at, "an image to pull")}
	}
	if _, err := reference.Parse(image); err != nil {
		return field.ErrorList{field.Invalid(at, image, err.Error())}
	}
	return nil
}

func validateTemplate(t *appsv1beta1.ImagePullJobTemplate, spec *field.Path) field.ErrorList {
	errs := validateSelectors(t, spec)
	if p := t.Parallelism; p != nil {
		at := spec.Child("parallelism")
		n, err := int64(p.IntVal), error(nil)
		if p.Type == intstr.String {
			n, err = strconv.ParseInt(p.StrVal, 10, 32)
		}
		if err != nil || n < 0 {
			errs = append(errs, field.Invalid(at, p.String(), "must be a number of nodes, not negative and not a percentage"))
		}
	}
	errs = append(errs, validatePullPolicy(t.PullPolicy, spec.Child("pullPolicy"))...)
	errs = append(errs, validateCompletion(t, spec.Child("completionPolicy"))...)
	return append(errs, validateImagePullPolicy(t.ImagePullPolicy, spec.Child("imagePullPolicy"))...)
}

func validateImagePullPolicy(p appsv1beta1.ImagePullPolicy, at *field.Path) field.ErrorList {
	switch p {
	case "", appsv1beta1.PullAlways, appsv1beta1.PullIfNotPresent:
		return nil
	}
	return field.ErrorList{field.NotSupported(at, p, []appsv1beta1.ImagePullPolicy{appsv1beta1.PullAlways, appsv1beta1.PullIfNotPresent})}
}

func validateSelectors(t *appsv1beta1.ImagePullJobTemplate, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	options := metav1validation.LabelSelectorValidationOptions{}
	if t.Selector != nil && t.PodSelector != nil {
		errs = append(errs, field.Forbidden(spec.Child("podSelector"), "selector and podSelector exclude each other"))
	}
	if s := t.Selector; s != nil {
		at := spec.Child("selector")
		if s.Names != nil && (s.MatchLabels != nil || s.MatchExpressions != nil) {
			errs = append(errs, field.Forbidden(at.Child("names"), "names and labels exclude each other"))
		}
		seen := map[string]bool{}
		for i, name := range s.Names {
			if seen[name] {
				errs = append(errs, field.Duplicate(at.Child("names").Index(i), name))
			}
			seen[name] = true
		}
		errs = append(errs, metav1validation.ValidateLabelSelector(&s.LabelSelector, options, at)...)
	}
	if s := t.PodSelector; s != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(&s.LabelSelector, options, spec.Child("podSelector"))...)
	}
	return errs
}

func validatePullPolicy(p *appsv1beta1.PullPolicy, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p == nil {
		return nil
	}
	if p.TimeoutSeconds != nil && *p.TimeoutSeconds <= 0 {
		errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *p.TimeoutSeconds, "must be positive"))
	}
	if p.BackoffLimit != nil && *p.BackoffLimit < 0 {
		errs = append(errs, field.Invalid(at.Child("backoffLimit"), *p.BackoffLimit, "must not be negative"))
	}
	return errs
}

func validateCompletion(t *appsv1beta1.ImagePullJobTemplate, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	c := &t.CompletionPolicy
	switch c.Type {
	case appsv1beta1.Always:
	case appsv1beta1.Never:
		if c.ActiveDeadlineSeconds != nil {
			errs = append(errs, field.Forbidden(at.Child("activeDeadlineSeconds"), "only with type Always"))
		}
		if c.TTLSecondsAfterFinished != nil {
			errs = append(errs, field.Forbidden(at.Child("ttlSecondsAfterFinished"), "only with type Always"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), c.Type,
			[]appsv1beta1.CompletionPolicyType{appsv1beta1.Always, appsv1beta1.Never}))
	}
	if c.TTLSecondsAfterFinished != nil && *c.TTLSecondsAfterFinished < 0 {
		errs = append(errs, field.Invalid(at.Child("ttlSecondsAfterFinished"), *c.TTLSecondsAfterFinished, "must not be negative"))
	}
	timeout := int64(imagepull.DefaultTimeoutSeconds)
	if t.PullPolicy != nil {
		timeout = int64(ptr.Deref(t.PullPolicy.TimeoutSeconds, imagepull.DefaultTimeoutSeconds))
	}
	if c.ActiveDeadlineSeconds != nil && *c.ActiveDeadlineSeconds < timeout {
		errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), *c.ActiveDeadlineSeconds,
			"must be greater than pullPolicy.timeoutSeconds"))
	}
	return errs
}

// validateNodeImage applies the rules of image-pulling 3.3.
func validateNodeImage(n, old *appsv1beta1.NodeImage, o *Options) field.ErrorList {
	at := field.NewPath("spec", "images")
	var errs field.ErrorList
	if len(n.Spec.Images) > imagepull.MaxImages {
		errs = append(errs, field.TooMany(at, len(n.Spec.Images), imagepull.MaxImages))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Spec.Images)) {
		entry, path := n.Spec.Images[name], at.Key(name)
		if name == "" {
			errs = append(errs, field.Required(path, "a name of an image"))
		}
		errs = append(errs, validateTags(entry.Tags, path.Child("tags"))...)
		for i, s := range entry.PullSecrets {
			known := old != nil && slices.Contains(old.Spec.Images[name].PullSecrets, s)
			brokered := o.Broker && s.Mode == imagepull.ReferenceModeBroker
			if o.ConfigNamespace != "" && s.Namespace != o.ConfigNamespace && !known && !brokered {
				errs = append(errs, field.Invalid(path.Child("pullSecrets").Index(i).Child("namespace"), s.Namespace,
					"agents read secrets in namespace "+o.ConfigNamespace+" only"))
			}
		}
	}
	return errs
}

func validateTags(tags []appsv1beta1.ImageTagSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range tags {
		t, path := &tags[i], at.Index(i)
		if t.Tag == "" {
			errs = append(errs, field.Required(path.Child("tag"), "a tag or a digest"))
		}
		if seen[t.Tag] {
			errs = append(errs, field.Duplicate(path.Child("tag"), t.Tag))
		}
		seen[t.Tag] = true
		if t.CreatedAt == nil {
			errs = append(errs, field.Required(path.Child("createdAt"), "when this version was asked for"))
		}
		if t.Version < 0 {
			errs = append(errs, field.Invalid(path.Child("version"), t.Version, "must not be negative"))
		}
		if t.PullPolicy == nil {
			errs = append(errs, field.Required(path.Child("pullPolicy"), "how often and how long to try"))
		} else if t.PullPolicy.TTLSecondsAfterFinished == nil {
			errs = append(errs, field.Required(path.Child("pullPolicy", "ttlSecondsAfterFinished"), "when to forget the tag"))
		}
	}
	return errs
}
