// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"strconv"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Annotations by which v1alpha1 tunes the pre-download of images (cloneset 3.3).
const (
	parallelismAnnotation = "apps.kruise.io/image-predownload-parallelism"
	timeoutAnnotation     = "apps.kruise.io/image-predownload-timeout-seconds"
	minReadyAnnotation    = "apps.kruise.io/image-predownload-min-updated-ready-pods"
)

const notInteger = "must be a non-negative integer"

func validateInPlaceStrategy(w *view) field.ErrorList {
	if w.inPlace == nil {
		return nil
	}
	var errs field.ErrorList
	path := w.rolling.Child("inPlaceUpdateStrategy")
	if p := w.inPlace.ImagePreDownloadParallelism; p != nil && !isParallelism(*p) {
		errs = append(errs, field.Invalid(path.Child("imagePreDownloadParallelism"), p.String(), notInteger))
	}
	if n := w.inPlace.ImagePreDownloadTimeoutSeconds; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("imagePreDownloadTimeoutSeconds"), *n, apivalidation.IsNegativeErrorMsg))
	}
	if n := w.inPlace.ImagePreDownloadMinUpdatedReadyPods; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("imagePreDownloadMinUpdatedReadyPods"), *n, apivalidation.IsNegativeErrorMsg))
	}
	return errs
}

func isParallelism(v intstr.IntOrString) bool {
	if v.Type == intstr.String {
		return isInteger(v.StrVal)
	}
	return v.IntVal >= 0
}

func isInteger(text string) bool {
	n, err := strconv.ParseInt(text, 10, 32)
	return err == nil && n >= 0
}

// validateAnnotations refuses pre-download annotations of v1alpha1 that would be lost or make a job that never runs
// (cloneset, weakness 5). A percentage of pods is only warned about: manifests have it.
func validateAnnotations(w *view) field.ErrorList {
	if !w.preDownloadAnnotations {
		return nil
	}
	var errs field.ErrorList
	for _, key := range []string{parallelismAnnotation, timeoutAnnotation, minReadyAnnotation} {
		text := w.meta.Annotations[key]
		if text == "" || isInteger(text) || (key == minReadyAnnotation && isPercentage(text)) {
			continue
		}
		errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(key), text, notInteger))
	}
	return errs
}

func isPercentage(text string) bool {
	digits, found := strings.CutSuffix(text, "%")
	return found && isInteger(digits)
}

func annotationWarnings(w *view) []string {
	if text := w.meta.Annotations[minReadyAnnotation]; w.preDownloadAnnotations && isPercentage(text) {
		return []string{fmt.Sprintf("metadata.annotations[%s]: a percentage has no effect on a CloneSet, use a number of pods", minReadyAnnotation)}
	}
	return nil
}
