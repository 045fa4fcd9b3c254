// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/revision"
)

// derived keeps what is costly to work out from objects that rarely change, for the versions it was made from.
type derived struct {
	// data is the revision data of the template as of generation.
	data       []byte
	generation int64
	// steps are the steps between revisions.
	steps map[stepKey]stepResult
}

// stepKey names everything that a step depends on: two revisions in a version each, and the options that can differ from
// one reconcile to the next. Those of the process never do.
type stepKey struct {
	old, oldVersion, target, targetVersion string
	ignoreClaims, initImages               bool
}

// maxSteps bounds the steps kept per CloneSet. When there are more, all are worked out anew.
const maxSteps = 32

// data returns the revision data of the template of a CloneSet, which only changes with the generation.
func (m *memory) data(cs *appsv1beta1.CloneSet) ([]byte, error) {
	key := client.ObjectKeyFromObject(cs)
	m.mu.Lock()
	d := m.of(key, cs.UID).derived
	m.mu.Unlock()
	if d.data != nil && d.generation == cs.Generation && cs.Generation > 0 {
		return d.data, nil
	}
	data, err := revision.Data(&cs.Spec.Template)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, cs.UID)
	r.derived.data, r.derived.generation = data, cs.Generation
	return data, nil
}

// step is inplace.Decide, remembered.
func (m *memory) step(key types.NamespacedName, uid types.UID) func(old, target *appsv1.ControllerRevision, o inplace.Options) (*inplace.Step, error) {
	return func(old, target *appsv1.ControllerRevision, o inplace.Options) (*inplace.Step, error) {
		if old.UID == "" || target.UID == "" || old.ResourceVersion == "" || target.ResourceVersion == "" {
			return inplace.Decide(old, target, o)
		}
		k := stepKey{string(old.UID), old.ResourceVersion, string(target.UID), target.ResourceVersion, o.IgnoreClaimChange, o.InitContainerImages}
		m.mu.Lock()
		r, ok := m.of(key, uid).derived.steps[k]
		m.mu.Unlock()
		if ok {
			return r.step, r.err
		}
		r.step, r.err = inplace.Decide(old, target, o)
		m.mu.Lock()
		defer m.mu.Unlock()
		d := &m.of(key, uid).derived
		if d.steps == nil || len(d.steps) >= maxSteps {
			d.steps = make(map[stepKey]stepResult, 2)
		}
		d.steps[k] = r
		return r.step, r.err
	}
}
