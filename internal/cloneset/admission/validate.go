// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kruise.io/kruise/internal/percent"
	"kruise.io/kruise/internal/template"
)

const (
	// noDeadline is the value of progressDeadlineSeconds that means none.
	noDeadline = math.MaxInt32

	// hashLength is the most that a revision's hash, with its dash, adds to the CloneSet's name.
	hashLength = 11

	allowedFields = "updates to cloneset spec for fields other than 'replicas', 'template', 'lifecycle', 'scaleStrategy', 'updateStrategy', " +
		"'minReadySeconds', 'volumeClaimTemplates', 'revisionHistoryLimit' and 'progressDeadlineSeconds' are forbidden"
)

// validateCreate returns what is wrong with a new CloneSet, except what needs to look at pods.
func validateCreate(w *view, o Options) field.ErrorList {
	metadata := field.NewPath("metadata")
	errs := apivalidation.ValidateObjectMeta(&w.meta, true, apivalidation.NameIsDNSSubdomain, metadata)
	if longest := validation.LabelValueMaxLength - hashLength; !o.ShortHash && len(w.meta.Name) > longest {
		errs = append(errs, field.TooLong(metadata.Child("name"), w.meta.Name, longest))
	}
	return append(errs, validateSpec(w, nil, o)...)
}

// validateUpdate returns what is wrong with the change from old to w. What was wrong before and did not change is not
// held against an update: a stored object stays editable when rules become stricter.
func validateUpdate(w, old *view, o Options) field.ErrorList {
	meta := w.meta
	if meta.ResourceVersion == "" {
		meta.ResourceVersion = old.meta.ResourceVersion
	}
	errs := apivalidation.ValidateObjectMetaUpdate(&meta, &old.meta, field.NewPath("metadata"))
	if !equality.Semantic.DeepEqual(w.selector, old.selector) {
		errs = append(errs, field.Forbidden(specPath, allowedFields+": 'selector' is immutable"))
	}
	if w.policy == inPlaceOnly && !w.onDelete {
		errs = append(errs, validateInPlaceOnly(w, old, o)...)
	}
	if found := validateSpec(w, old, o); len(found) > 0 {
		errs = append(errs, notIn(found, validateSpec(old, nil, o))...)
	}
	return errs
}

// notIn returns the errors that do not occur among known.
func notIn(errs, known field.ErrorList) field.ErrorList {
	texts := sets.New[string]()
	for _, e := range known {
		texts.Insert(e.Error())
	}
	return slices.DeleteFunc(errs, func(e *field.Error) bool { return texts.Has(e.Error()) })
}

// validateInPlaceOnly refuses a change of the template that can't be made in place (inplace-update 5.2).
func validateInPlaceOnly(w, old *view, o Options) field.ErrorList {
	if o.InPlace == nil || template.Equal(w.template, old.template) {
		return nil
	}
	if err := o.InPlace(w.meta.Annotations, old.template, w.template); err != nil {
		return field.ErrorList{field.Forbidden(specPath.Child("template", "spec"), "the update strategy is InPlaceOnly, but "+err.Error())}
	}
	return nil
}

// validateSpec applies the rules of cloneset 3.1; old relaxes rules about the template and may be nil.
func validateSpec(w, old *view, o Options) field.ErrorList {
	var errs field.ErrorList
	if w.replicas < 0 {
		errs = append(errs, field.Invalid(specPath.Child("replicas"), w.replicas, apivalidation.IsNegativeErrorMsg))
	}
	selector, found := validateSelector(w.selector)
	errs = append(errs, found...)
	errs = append(errs, validateTemplate(w, old, selector, o)...)
	errs = append(errs, validateScaleStrategy(w)...)
	errs = append(errs, validateStrategy(w)...)
	errs = append(errs, validateInPlaceStrategy(w)...)
	errs = append(errs, validateAnnotations(w)...)
	return append(errs, validateDeadline(w)...)
}

func validateSelector(selector *metav1.LabelSelector) (labels.Selector, field.ErrorList) {
	path := specPath.Child("selector")
	if selector == nil {
		return nil, field.ErrorList{field.Required(path, "")}
	}
	errs := metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for cloneset"))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, field.ErrorList{field.Invalid(path, selector, err.Error())}
	}
	return parsed, nil
}

func validateTemplate(w, old *view, selector labels.Selector, o Options) field.ErrorList {
	path, claimsPath := specPath.Child("template"), specPath.Child("volumeClaimTemplates")
	validator := template.Validator{AllowPrivileged: o.AllowPrivileged}
	if old == nil {
		return validator.ValidateForWorkload(w.template, nil, selector, w.claims, path, claimsPath)
	}
	if equality.Semantic.DeepEqual(w.template, old.template) && equality.Semantic.DeepEqual(w.claims, old.claims) {
		return nil
	}
	return validator.ValidateForWorkload(w.template, old.template, selector, w.claims, path, claimsPath)
}

func validateScaleStrategy(w *view) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("scaleStrategy")
	seen := sets.New[string]()
	for i, name := range w.podsToDelete {
		if seen.Has(name) {
			errs = append(errs, field.Duplicate(path.Child("podsToDelete").Index(i), name))
		}
		seen.Insert(name)
	}
	_, found := number(w.scaleMaxUnavailable, path.Child("maxUnavailable"))
	return append(errs, found...)
}

// number parses a number or percentage; nil is the number 0.
func number(v *intstr.IntOrString, path *field.Path) (percent.Value, field.ErrorList) {
	if v == nil {
		return percent.Value{}, nil
	}
	parsed, err := percent.Parse(*v)
	if err != nil {
		return parsed, field.ErrorList{field.Invalid(path, v.String(), err.Error())}
	}
	return parsed, nil
}

func validateStrategy(w *view) field.ErrorList {
	var errs field.ErrorList
	if w.strategyError != nil {
		errs = append(errs, w.strategyError)
	}
	_, found := number(w.partition, w.rolling.Child("partition"))
	errs = append(errs, found...)
	errs = append(errs, validateBudget(w)...)
	errs = append(errs, validatePriority(w)...)
	return append(errs, validateScatter(w)...)
}

// validateBudget checks maxUnavailable and maxSurge. They have no effect on type OnDelete, which may leave them at
// anything that parses (weakness 3).
func validateBudget(w *view) field.ErrorList {
	unavailablePath, surgePath := w.rolling.Child("maxUnavailable"), w.rolling.Child("maxSurge")
	given := w.maxUnavailable
	if given == nil {
		given = &defaultMaxUnavailable
	}
	unavailable, errs := number(given, unavailablePath)
	surge, found := number(w.maxSurge, surgePath)
	errs = append(errs, found...)
	if len(errs) > 0 || w.onDelete {
		return errs
	}
	if w.replicas > 0 && unavailable.Up(w.replicas) < 1 && surge.Up(w.replicas) < 1 {
		errs = append(errs, field.Invalid(unavailablePath, given.String(), "may not be 0 when `maxSurge` is 0"))
	}
	if w.policy == inPlaceOnly && surge.Up(w.replicas) > 0 {
		errs = append(errs, field.Invalid(surgePath, w.maxSurge.String(), "must be 0 when pods may only be updated in place (InPlaceOnly)"))
	}
	return errs
}

var defaultMaxUnavailable = intstr.FromString("20%")

// validatePriority reports all errors as required errors on the strategy (pod-lifecycle 7).
func validatePriority(w *view) field.ErrorList {
	if w.priority == nil {
		return nil
	}
	var errs field.ErrorList
	path := w.rolling.Child("priorityStrategy")
	refuse := func(format string, args ...any) {
		errs = append(errs, field.Required(path, fmt.Sprintf(format, args...)))
	}
	if len(w.priority.WeightPriority) > 0 && len(w.priority.OrderPriority) > 0 {
		refuse("only one of weightPriority and orderPriority may be given")
	}
	for i, term := range w.priority.WeightPriority {
		if term.Weight < 0 || term.Weight > 100 {
			refuse("weightPriority[%d].weight must be in the range 0-100, not %d", i, term.Weight)
		}
		if len(term.MatchSelector.MatchLabels)+len(term.MatchSelector.MatchExpressions) == 0 {
			refuse("weightPriority[%d].matchSelector must not be empty", i)
		} else if _, err := metav1.LabelSelectorAsSelector(&term.MatchSelector); err != nil {
			refuse("weightPriority[%d].matchSelector: %v", i, err)
		}
	}
	for i, term := range w.priority.OrderPriority {
		if term.OrderedKey == "" {
			refuse("orderPriority[%d].orderedKey must not be empty", i)
		}
	}
	return errs
}

func validateScatter(w *view) field.ErrorList {
	var errs field.ErrorList
	path := w.rolling.Child("scatterStrategy")
	for i, term := range w.scatter {
		if term.Key == "" {
			errs = append(errs, field.Required(path, fmt.Sprintf("[%d].key must not be empty", i)))
		}
		if slices.Contains(w.scatter[:i], term) {
			errs = append(errs, field.Required(path, fmt.Sprintf("[%d] repeats the pair %s=%s", i, term.Key, term.Value)))
		}
	}
	return errs
}

func validateDeadline(w *view) field.ErrorList {
	d := w.progressDeadlineSeconds
	if d == nil || *d == noDeadline {
		return nil
	}
	path := specPath.Child("progressDeadlineSeconds")
	switch {
	case *d < 0:
		return field.ErrorList{field.Invalid(path, *d, apivalidation.IsNegativeErrorMsg)}
	case *d <= w.minReadySeconds:
		return field.ErrorList{field.Invalid(path, *d, "must be greater than minReadySeconds")}
	}
	return nil
}
