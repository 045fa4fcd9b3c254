// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"encoding/json"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset/admission"
)

// operate has a user make a change that is drawn from the schema. It takes the way through our admission; what that
// refuses must name the field, and changes nothing.
func (w *World) operate() {
	fields, err := v1beta1Fields()
	if err != nil {
		panic(err)
	}
	o := Draw(fields, w.rng, false)
	old, err := json.Marshal(w.store.set())
	if err != nil {
		panic(err)
	}
	patch, err := json.Marshal(o.Patch())
	if err != nil {
		panic(err)
	}
	wanted, err := jsonpatch.MergePatch(old, patch)
	if err != nil {
		panic(err)
	}
	admitted, refusal := w.admit(old, wanted)
	if refusal != nil {
		w.log("user: %s: refused: %s", o, refusal.Message)
		if refusal.Code != 422 || refusal.Details == nil || len(refusal.Details.Causes) == 0 || refusal.Details.Causes[0].Field == "" {
			w.fail("%s is refused without naming a field: %+v", o, refusal)
		}
		return
	}
	cs := &appsv1beta1.CloneSet{}
	if err := json.Unmarshal(admitted, cs); err != nil {
		w.fail("%s was admitted and can't be read: %v", o, err)
		return
	}
	w.change(o, func(now *appsv1beta1.CloneSet) { now.Spec = cs.Spec })
}

// admit sends an update through the handlers of our webhooks.
func (w *World) admit(old, wanted []byte) (admitted []byte, refusal *metav1.Status) {
	options := admission.Options{}
	req := webhook.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Update, Name: setName, Namespace: namespace,
		Kind:   metav1.GroupVersionKind{Group: appsv1beta1.GroupName, Version: "v1beta1", Kind: "CloneSet"},
		Object: runtime.RawExtension{Raw: wanted}, OldObject: runtime.RawExtension{Raw: old},
	}}
	resp := admission.MutatingHandler(options).Handle(context.Background(), req)
	if !resp.Allowed {
		return nil, resp.Result
	}
	if len(resp.Patches) > 0 {
		encoded, err := json.Marshal(resp.Patches)
		if err != nil {
			panic(err)
		}
		patch, err := jsonpatch.DecodePatch(encoded)
		if err != nil {
			panic(err)
		}
		if wanted, err = patch.Apply(wanted); err != nil {
			panic(fmt.Sprintf("the patch of the webhook does not apply: %v", err))
		}
	}
	req.Object.Raw = wanted
	if resp = admission.ValidatingHandler(options, podReader{w: w}).Handle(context.Background(), req); !resp.Allowed {
		return nil, resp.Result
	}
	return wanted, nil
}

// podReader reads pods from the store, for admission.
type podReader struct {
	client.Reader
	w *World
}

func (r podReader) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	o, err := r.w.store.get(kindOf(into), key.Name)
	if err != nil {
		return err
	}
	assign(into, o)
	return nil
}
