// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull"
)

// defaultJob adds the defaults of an ImagePullJob; in v1alpha1 a new job has its finalizer at once.
func defaultJob(d document, req *admission.Request, _ time.Time) error {
	spec, err := defaultTemplate(d)
	if err != nil {
		return err
	}
	missing(spec, "imagePullPolicy", string(appsv1beta1.PullIfNotPresent))
	if req.Operation != admissionv1.Create || req.Kind.Version != "v1alpha1" {
		return nil
	}
	meta, err := child(d, "metadata")
	if err != nil {
		return err
	}
	finalizers, _ := meta["finalizers"].([]any)
	if !slices.Contains(finalizers, any(appsv1beta1.ImagePullJobProtectionFinalizer)) {
		meta["finalizers"] = append(finalizers, appsv1beta1.ImagePullJobProtectionFinalizer)
	}
	return nil
}

// defaultList adds the defaults of an ImageListPullJob; the pull policy of images is left to its children.
func defaultList(d document, _ *admission.Request, _ time.Time) error {
	_, err := defaultTemplate(d)
	return err
}

func defaultTemplate(d document) (spec document, err error) {
	if spec, err = child(d, "spec"); err != nil {
		return nil, err
	}
	completion, err := child(spec, "completionPolicy")
	if err != nil {
		return nil, err
	}
	missing(completion, "type", string(appsv1beta1.Always))
	pull, err := child(spec, "pullPolicy")
	if err != nil {
		return nil, err
	}
	missing(pull, "timeoutSeconds", int64(imagepull.DefaultTimeoutSeconds))
	missing(pull, "backoffLimit", int64(imagepull.DefaultBackoffLimit))
	return spec, nil
}

// defaultNodeImage adds the defaults of every tag and sorts the tags (image-pulling 3.3).
func defaultNodeImage(d document, _ *admission.Request, now time.Time) error {
	spec, _ := d["spec"].(document)
	images, _ := spec["images"].(document)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		entry, ok := images[name].(document)
		if !ok {
			continue
		}
		tags, _ := entry["tags"].([]any)
		for i := range tags {
			tag, ok := tags[i].(document)
			if !ok {
				return fmt.Errorf("spec.images[%s].tags[%d] is not an object", name, i)
			}
			missing(tag, "createdAt", now.UTC().Format(time.RFC3339))
			pull, err := child(tag, "pullPolicy")
			if err != nil {
				return fmt.Errorf("spec.images[%s].tags[%d]: %w", name, i, err)
			}
			missing(pull, "timeoutSeconds", int64(imagepull.DefaultTimeoutSeconds))
			missing(pull, "backoffLimit", int64(imagepull.DefaultBackoffLimit))
		}
		sortTags(tags)
	}
	status, _ := d["status"].(document)
	reported, _ := status["imageStatuses"].(document)
	for _, entry := range reported {
		if entry, ok := entry.(document); ok {
			tags, _ := entry["tags"].([]any)
			sortTags(tags)
		}
	}
	return nil
}

func sortTags(tags []any) {
	name := func(tag any) string {
		fields, _ := tag.(document)
		s, _ := fields["tag"].(string)
		return s
	}
	slices.SortStableFunc(tags, func(a, b any) int { return strings.Compare(name(a), name(b)) })
}

// missing sets a field that is absent, null or an empty string.
func missing(fields document, key string, value any) {
	if current, ok := fields[key]; !ok || current == nil || current == "" {
		fields[key] = value
	}
}

// child returns the object in a field, which it creates if it is absent or null.
func child(parent document, key string) (document, error) {
	switch value := parent[key].(type) {
	case document:
		return value, nil
	case nil:
		out := document{}
		parent[key] = out
		return out, nil
	default:
		return nil, fmt.Errorf("%s is %T, not an object", key, value)
	}
}
