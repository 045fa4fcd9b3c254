// SPDX-License-Identifier: Apache-2.0

// Package admission defaults and validates NodeImages, ImagePullJobs and ImageListPullJobs of both versions
// (image-pulling 3 and 7). Both versions have the same JSON, so the rules are plain functions on v1beta1 types; defaults
// are added to the JSON as it was sent, so that fields we do not know survive.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Options are the gates and flags that change admission.
type Options struct {
	// Daemon is the gate KruiseDaemon; without it nothing here is admitted.
	Daemon bool
	// Jobs is the gate ImagePullJobGate; without it ImagePullJobs and ImageListPullJobs are not admitted.
	Jobs bool
	// ConfigNamespace is the only namespace that NodeImages may refer to secrets in; empty for no check.
	ConfigNamespace string
	// Broker: NodeImages may also refer to secrets that agents ask the manager for (--secret-delivery=broker).
	Broker bool
	// Now is the clock; nil for the real one.
	Now func() time.Time
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Handlers returns all handlers by path.
func Handlers(o Options) map[string]admission.Handler {
	return map[string]admission.Handler{
		"/mutate-apps-kruise-io-nodeimage":          mutator{&o, defaultNodeImage},
		"/mutate-apps-kruise-io-imagepulljob":       mutator{&o, defaultJob},
		"/mutate-apps-kruise-io-imagelistpulljob":   mutator{&o, defaultList},
		"/validate-apps-kruise-io-nodeimage":        validator[appsv1beta1.NodeImage]{&o, "", validateNodeImage, nil},
		"/validate-apps-kruise-io-imagepulljob":     validator[appsv1beta1.ImagePullJob]{&o, jobsGate, validateJob, jobComplete},
		"/validate-apps-kruise-io-imagelistpulljob": validator[appsv1beta1.ImageListPullJob]{&o, jobsGate, validateList, listComplete},
	}
}

const (
	daemonGate = "KruiseDaemon"
	jobsGate   = "ImagePullJobGate"
)

// document is the JSON of an object, decoded.
type document = map[string]any

type mutator struct {
	options *Options
	apply   func(d document, req *admission.Request, now time.Time) error
}

// Handle implements admission.Handler.
func (m mutator) Handle(_ context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" || (req.Operation != admissionv1.Create && req.Operation != admissionv1.Update) {
		return admission.Allowed("")
	}
	if err := knownVersion(&req); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	var d document
	if err := kjson.UnmarshalCaseSensitivePreserveInts(req.Object.Raw, &d); err != nil || d == nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the %s: %w", req.Kind.Kind, orNoObject(err)))
	}
	if meta, ok := d["metadata"].(document); ok && meta["deletionTimestamp"] != nil {
		return admission.Allowed("") // what is going away must not be held up (W12)
	}
	if err := m.apply(d, &req, m.options.now()); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("defaulting the %s: %w", req.Kind.Kind, err))
	}
	out, err := json.Marshal(d)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("encoding the %s: %w", req.Kind.Kind, err))
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, out)
}

func orNoObject(err error) error {
	if err == nil {
		return errors.New("no object")
	}
	return err
}

func knownVersion(req *admission.Request) error {
	if req.Kind.Version != "v1alpha1" && req.Kind.Version != "v1beta1" {
		return fmt.Errorf("unknown version %q of %s", req.Kind.Version, req.Kind.Kind)
	}
	return nil
}

// validator answers with the violations of one kind. An update that leaves the spec as it is passes: objects that were
// admitted by earlier rules, or that only lose a finalizer, must not be stuck (W12).
type validator[T any] struct {
	options  *Options
	gate     string
	validate func(updated, old *T, o *Options) field.ErrorList
	complete func(old, updated *T) error
}

// Handle implements admission.Handler.
func (v validator[T]) Handle(_ context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" || (req.Operation != admissionv1.Create && req.Operation != admissionv1.Update) {
		return admission.Allowed("")
	}
	updated, err := decode[T](req.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the %s: %w", req.Kind.Kind, err))
	}
	var old *T
	if req.Operation == admissionv1.Update {
		if meta, ok := any(updated).(client.Object); ok && meta.GetDeletionTimestamp() != nil {
			return admission.Allowed("")
		}
		if old, err = decode[T](req.OldObject.Raw); err == nil && equality.Semantic.DeepEqual(specOf(old), specOf(updated)) {
			return admission.Allowed("")
		}
	}
	if resp, refused := v.gated(); refused {
		return resp
	}
	if err := knownVersion(&req); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if old != nil && v.complete != nil {
		if err := v.complete(old, updated); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
	}
	if errs := v.validate(updated, old, v.options); len(errs) > 0 {
		status := apierrors.NewInvalid(appsv1beta1.Kind(req.Kind.Kind), req.Name, errs).Status()
		status.Code, status.Reason = http.StatusBadRequest, metav1.StatusReasonBadRequest
		return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &status}}
	}
	return admission.Allowed("")
}

func (v validator[T]) gated() (admission.Response, bool) {
	switch {
	case !v.options.Daemon:
		return admission.Denied("feature-gate " + daemonGate + " is not enabled"), true
	case v.gate == jobsGate && !v.options.Jobs:
		return admission.Denied("feature-gate " + jobsGate + " is not enabled"), true
	}
	return admission.Response{}, false
}

func decode[T any](raw []byte) (*T, error) {
	out := new(T)
	if len(raw) == 0 {
		return nil, errors.New("no object")
	}
	return out, json.Unmarshal(raw, out)
}

func specOf(obj any) any {
	switch o := obj.(type) {
	case *appsv1beta1.NodeImage:
		return &o.Spec
	case *appsv1beta1.ImagePullJob:
		return &o.Spec
	case *appsv1beta1.ImageListPullJob:
		return &o.Spec
	}
	return obj
}

// jobComplete refuses to edit a job that is over: nothing would come of it. The time to live may still change (W6).
func jobComplete(old, updated *appsv1beta1.ImagePullJob) error {
	a, b := old.Spec.DeepCopy(), updated.Spec.DeepCopy()
	b.CompletionPolicy.TTLSecondsAfterFinished = a.CompletionPolicy.TTLSecondsAfterFinished
	if old.Status.CompletionTime != nil && !equality.Semantic.DeepEqual(a, b) {
		return errors.New("the job is complete: its spec can't change any more, create a new job instead")
	}
	return nil
}

func listComplete(old, updated *appsv1beta1.ImageListPullJob) error {
	a, b := old.Spec.DeepCopy(), updated.Spec.DeepCopy()
	b.CompletionPolicy.TTLSecondsAfterFinished = a.CompletionPolicy.TTLSecondsAfterFinished
	if old.Status.CompletionTime != nil && !equality.Semantic.DeepEqual(a, b) {
		return errors.New("the job is complete: its spec can't change any more, create a new job instead")
	}
	return nil
}

func samePullSecrets(a, b []string) bool { return slices.Equal(a, b) }
