// SPDX-License-Identifier: Apache-2.0

// Package admission defaults and validates CloneSets of both versions (cloneset 3 and 7). The rules are plain functions
// on a view that both versions share; the handlers are thin adapters to admission requests. Defaults are added to the
// JSON as it was sent.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	"kruise.io/kruise/internal/deletionprotection"
	"kruise.io/kruise/internal/template"
)

// MutatingHandler returns the handler of /mutate-apps-kruise-io-cloneset. It answers with a patch of the JSON that was
// sent, so fields it does not know survive.
func MutatingHandler(o Options) admission.Handler { return &mutator{o} }

// ValidatingHandler returns the handler of /validate-apps-kruise-io-cloneset. reader reads pods that are named in
// podsToDelete; it should read from the apiserver, because a cache may not know a new pod yet.
func ValidatingHandler(o Options, reader client.Reader) admission.Handler {
	return &validator{options: o, reader: reader}
}

type mutator struct{ options Options }

// Handle implements admission.Handler.
func (m *mutator) Handle(_ context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" || (req.Operation != admissionv1.Create && req.Operation != admissionv1.Update) {
		return admission.Allowed("")
	}
	v, err := versionOf(req)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	var object, old document
	if err := unmarshal(req.Object.Raw, &object); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the CloneSet: %w", err))
	}
	if req.Operation == admissionv1.Update {
		// A stored object that can't be read makes everything count as changed.
		_ = unmarshal(req.OldObject.Raw, &old)
	}
	if err := setDefaults(object, old, v, m.options); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("defaulting the CloneSet: %w", err))
	}
	defaulted, err := json.Marshal(object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("encoding the CloneSet: %w", err))
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, defaulted)
}

func unmarshal(raw []byte, into *document) error {
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, into); err != nil {
		return err
	}
	if *into == nil {
		return errors.New("no object")
	}
	return nil
}

// versionOf returns the version in which the request carries its objects.
func versionOf(req admission.Request) (version, error) {
	switch v := version(req.Kind.Version); v {
	case v1alpha1Version, v1beta1Version:
		return v, nil
	default:
		return "", fmt.Errorf("unknown version %q of CloneSet", v)
	}
}

type validator struct {
	options Options
	reader  client.Reader
}

// Handle implements admission.Handler.
func (v *validator) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" {
		return admission.Allowed("")
	}
	switch req.Operation {
	case admissionv1.Create, admissionv1.Update:
		return v.validate(ctx, req)
	case admissionv1.Delete:
		return v.protect(req)
	}
	return admission.Allowed("")
}

func (v *validator) validate(ctx context.Context, req admission.Request) admission.Response {
	sent, err := versionOf(req)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	w, err := decode(req.Object.Raw, sent)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the CloneSet: %w", err))
	}
	w.meta.Namespace = req.Namespace
	var old *view
	if req.Operation == admissionv1.Update {
		if old, err = decode(req.OldObject.Raw, sent); err != nil {
			old = nil // what is stored can't be read, so it may be repaired to anything
		} else {
			old.meta.Namespace = req.Namespace
		}
	}
	var errs field.ErrorList
	if old == nil {
		errs = validateCreate(w, v.options)
	} else {
		errs = validateUpdate(w, old, v.options)
	}
	found, err := v.validatePodsToDelete(ctx, w, old)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	if errs = append(errs, found...); len(errs) > 0 {
		return invalid(req.Name, errs)
	}
	return admission.Allowed("").WithWarnings(warnings(req.Object.Raw, w, old)...)
}

func invalid(name string, errs field.ErrorList) admission.Response {
	status := apierrors.NewInvalid(schema.GroupKind{Group: "apps.kruise.io", Kind: "CloneSet"}, name, errs).Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &status}}
}

// validatePodsToDelete checks that newly named pods exist, are not terminating and belong to this CloneSet.
func (v *validator) validatePodsToDelete(ctx context.Context, w, old *view) (field.ErrorList, error) {
	known := map[string]bool{}
	if old != nil {
		for _, name := range old.podsToDelete {
			known[name] = true
		}
	}
	var errs field.ErrorList
	path := specPath.Child("scaleStrategy", "podsToDelete")
	for i, name := range w.podsToDelete {
		if known[name] {
			continue
		}
		known[name] = true
		reason, err := v.notDeletable(ctx, w, name)
		if err != nil {
			return nil, err
		}
		if reason != "" {
			errs = append(errs, field.Invalid(path.Index(i), name, reason))
		}
	}
	return errs, nil
}

func (v *validator) notDeletable(ctx context.Context, w *view, name string) (string, error) {
	var p corev1.Pod
	err := v.reader.Get(ctx, client.ObjectKey{Namespace: w.meta.Namespace, Name: name}, &p)
	switch {
	case apierrors.IsNotFound(err) || name == "":
		return "no pod has this name", nil
	case err != nil:
		return "", fmt.Errorf("reading pod %s/%s named in podsToDelete: %w", w.meta.Namespace, name, err)
	case p.DeletionTimestamp != nil:
		return "the pod is terminating", nil
	}
	for _, ref := range p.OwnerReferences {
		if ref.Controller != nil && *ref.Controller && w.meta.UID != "" && ref.UID == w.meta.UID {
			return "", nil
		}
	}
	return "the pod is not controlled by this CloneSet", nil
}

// warnings tells about what is accepted but probably not meant: unknown fields of templates that changed, and the like.
func warnings(raw []byte, w, old *view) []string {
	var content struct {
		Spec struct {
			Template             json.RawMessage   `json:"template"`
			VolumeClaimTemplates []json.RawMessage `json:"volumeClaimTemplates"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &content); err != nil {
		return nil
	}
	var out []string
	if old == nil || !equality.Semantic.DeepEqual(w.template, old.template) {
		for _, path := range template.UnknownFields(content.Spec.Template) {
			out = append(out, fmt.Sprintf("unknown field \"spec.template.%s\"", path))
		}
	}
	if old == nil || !equality.Semantic.DeepEqual(w.claims, old.claims) {
		for i, claim := range content.Spec.VolumeClaimTemplates {
			for _, path := range template.UnknownClaimFields(claim) {
				out = append(out, fmt.Sprintf("unknown field \"spec.volumeClaimTemplates[%d].%s\"", i, path))
			}
		}
	}
	out = append(out, annotationWarnings(w)...)
	return append(out, deletionprotection.Warnings(w.meta.Labels)...)
}

// protect honours deletion protection (cloneset 7.3).
func (v *validator) protect(req admission.Request) admission.Response {
	if !v.options.DeletionProtection || len(req.OldObject.Raw) == 0 {
		return admission.Allowed("")
	}
	// No more is read than is needed: a CloneSet with a template that nobody can read must not be there for ever.
	var set struct {
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			Replicas *int32 `json:"replicas"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(req.OldObject.Raw, &set); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the CloneSet: %w", err))
	}
	reason := deletionprotection.RefuseWorkload(&set.ObjectMeta, set.Spec.Replicas)
	if reason == "" {
		return admission.Allowed("")
	}
	if req.DryRun == nil || !*req.DryRun {
		deletionprotection.CountWorkload("CloneSet", req.Namespace, req.Name, req.UserInfo.Username)
	}
	return admission.Denied(reason)
}
