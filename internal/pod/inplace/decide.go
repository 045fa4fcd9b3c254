// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// claimHashKey is the ControllerRevision annotation with the hash of the claim templates.
const claimHashKey = "kruise.io/cloneset-volumeclaimtemplate-hash"

// templatePath is where the template is in a revision's document.
const templatePath = "/spec/template"

// Decide compares the templates of two revisions and returns the step from old to updated, or a *NotPossibleError that
// says what stands against it. A revision that is missing or can't be read makes it not possible (inplace-update 5.2).
//
// Containers, volumes and (where no value refers to another) environment entries are compared by name, so that a change
// of order alone is none.
func Decide(old, updated *appsv1.ControllerRevision, o Options) (*Step, error) {
	if old == nil {
		return nil, &NotPossibleError{Reason: "the pod's present revision no longer exists"}
	}
	if updated == nil {
		return nil, &NotPossibleError{Reason: "the target revision does not exist"}
	}
	if err := compareClaims(old, updated, o); err != nil {
		return nil, err
	}
	before, err := readRevision(old, o)
	if err != nil {
		return nil, err
	}
	after, err := readRevision(updated, o)
	if err != nil {
		return nil, err
	}
	c := comparison{o: o, fed: fedContainers(&after.typed.Spec, o)}
	if err := c.documents(before, after); err != nil {
		return nil, err
	}
	if len(c.plan.resources) > 0 {
		if b, a := qosOf(&before.typed.Spec), qosOf(&after.typed.Spec); b != a {
			return nil, &NotPossibleError{
				Path:   templatePath + "/spec/containers",
				Reason: fmt.Sprintf("the QoS class can't change in place, from %s to %s", b, a),
			}
		}
	}
	if c.plan.metadataPatch, err = c.metadata.patch(); err != nil {
		return nil, err
	}
	return &Step{o: o, plan: c.plan}, nil
}

// compareClaims applies the rule on claim templates. A revision without the annotation passes.
func compareClaims(old, updated *appsv1.ControllerRevision, o Options) error {
	if !o.RecreateOnClaimChange || o.IgnoreClaimChange {
		return nil
	}
	before, ok1 := old.Annotations[claimHashKey]
	after, ok2 := updated.Annotations[claimHashKey]
	if ok1 && ok2 && before != after {
		return &NotPossibleError{Reason: "the volume claim templates differ"}
	}
	return nil
}

// revision is a revision's document.
type revision struct {
	document map[string]any // without the template
	template map[string]any
	typed    corev1.PodTemplateSpec
}

func readRevision(cr *appsv1.ControllerRevision, o Options) (*revision, error) {
	unreadable := func(err error) error {
		return &NotPossibleError{Reason: fmt.Sprintf("revision %s can't be read: %v", cr.Name, err)}
	}
	r := &revision{}
	decoder := json.NewDecoder(bytes.NewReader(cr.Data.Raw))
	decoder.UseNumber()
	if err := decoder.Decode(&r.document); err != nil {
		return nil, unreadable(err)
	}
	var typed struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(cr.Data.Raw, &typed); err != nil {
		return nil, unreadable(err)
	}
	r.typed = typed.Spec.Template
	spec, _ := r.document["spec"].(map[string]any)
	r.template, _ = spec["template"].(map[string]any)
	if r.template == nil {
		return nil, unreadable(errors.New("it has no template"))
	}
	delete(spec, "template")
	if o.Default != nil {
		o.Default(&r.typed)
		if err := r.fillDefaults(); err != nil {
			return nil, unreadable(err)
		}
	}
	return r, nil
}

// fillDefaults adds to the document what the typed template has and it lacks; what it has stays, known or unknown.
func (r *revision) fillDefaults() error {
	data, err := json.Marshal(r.typed)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var defaulted map[string]any
	if err := decoder.Decode(&defaulted); err != nil {
		return err
	}
	fill(r.template, defaulted)
	return nil
}

// fedContainers returns which containers take their environment from which label or annotation.
func fedContainers(spec *corev1.PodSpec, o Options) map[source][]string {
	if !o.EnvFromMetadata {
		return nil
	}
	fed := map[source][]string{}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		seen := map[source]bool{}
		for j := range c.Env {
			if s, ok := feeder(&c.Env[j]); ok && !seen[s] {
				seen[s] = true
				fed[s] = append(fed[s], c.Name)
			}
		}
	}
	return fed
}
