// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// The two versions of these kinds are alike.
var (
	broadcastJob = newKind("apps.kruise.io", "BroadcastJob",
		func(in *v1alpha1.BroadcastJob, out *v1beta1.BroadcastJob) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		},
		func(in *v1beta1.BroadcastJob, out *v1alpha1.BroadcastJob) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		}).withOpaque([]string{"spec", "template"})

	imagePullJob = newKind("apps.kruise.io", "ImagePullJob",
		func(in *v1alpha1.ImagePullJob, out *v1beta1.ImagePullJob) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		},
		func(in *v1beta1.ImagePullJob, out *v1alpha1.ImagePullJob) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		})

	imageListPullJob = newKind("apps.kruise.io", "ImageListPullJob",
		func(in *v1alpha1.ImageListPullJob, out *v1beta1.ImageListPullJob) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		},
		func(in *v1beta1.ImageListPullJob, out *v1alpha1.ImageListPullJob) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		})

	// nodeImage follows image-pulling 3.4: the mode of pull secrets, which v1alpha1 lacks, travels in the annotation.
	nodeImage = newKind("apps.kruise.io", "NodeImage",
		func(in *v1alpha1.NodeImage, out *v1beta1.NodeImage) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		},
		func(in *v1beta1.NodeImage, out *v1alpha1.NodeImage) {
			assign(&out.ObjectMeta, in.ObjectMeta)
			assign(&out.Spec, in.Spec)
			assign(&out.Status, in.Status)
		})

	advancedCronJob = newKind("apps.kruise.io", "AdvancedCronJob", advancedCronJobToHub, advancedCronJobFromHub).
			withOpaque([]string{"spec", "template", "jobTemplate"}, []string{"spec", "template", "broadcastJobTemplate"})
)

// advancedCronJobToHub follows advancedcronjob 2: a template of the newer kind comes back from its annotation.
func advancedCronJobToHub(in *v1alpha1.AdvancedCronJob, out *v1beta1.AdvancedCronJob) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if text := in.Annotations[v1alpha1.ImageListPullJobTemplateAnnotation]; text != "" {
		var template *v1beta1.ImageListPullJobTemplateSpec
		if json.Unmarshal([]byte(text), &template) == nil && template != nil {
			out.Spec.Template.ImageListPullJobTemplate = template
			removeAnnotation(out, v1alpha1.ImageListPullJobTemplateAnnotation)
		}
	}
}

// advancedCronJobFromHub follows advancedcronjob 2: a template of the newer kind becomes an annotation.
func advancedCronJobFromHub(in *v1beta1.AdvancedCronJob, out *v1alpha1.AdvancedCronJob) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if template := in.Spec.Template.ImageListPullJobTemplate; template != nil {
		if raw, err := json.Marshal(template); err == nil {
			setAnnotation(out, v1alpha1.ImageListPullJobTemplateAnnotation, string(raw))
		}
	}
}
