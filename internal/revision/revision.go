// SPDX-License-Identifier: Apache-2.0

// Package revision keeps the history of a workload's pod template in ControllerRevisions, in the form that OpenKruise
// and the native StatefulSet write it (cloneset 5.3, 5.14), so that an upgrade finds every revision it knows.
//
// NewPlan decides, without a client, which revision is the update revision and which the current one, and what has to be
// written for it; Writer writes it. The package knows no workload kind: an Owner says what it needs to know of one.
package revision

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	kjson "sigs.k8s.io/json"

	"kruise.io/kruise/internal/template"
)

// HashLabel is the label of a revision with the hash that ends its name.
const HashLabel = "controller.kubernetes.io/hash"

// maxNamePrefix is how much of the owner's name is left in the names of its revisions.
const maxNamePrefix = 223

// Data returns the data of a revision of t: {"spec":{"template":{…,"$patch":"replace"}}} with sorted keys. It keeps
// writing "creationTimestamp":null, which newer libraries leave out, so that hashes and names stay what they were
// (cloneset 5.3, compatibility trap).
func Data(t *corev1.PodTemplateSpec) ([]byte, error) {
	encoded, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encoding the template: %w", err)
	}
	var raw map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, &raw); err != nil {
		return nil, fmt.Errorf("encoding the template: %w", err)
	}
	nullTimestamp(raw)
	for _, volume := range list(object(raw, "spec"), "volumes") {
		if ephemeral := object(volume, "ephemeral"); ephemeral != nil {
			nullTimestamp(object(ephemeral, "volumeClaimTemplate"))
		}
	}
	raw["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": raw}})
}

// nullTimestamp adds the empty creation timestamp to the metadata of an object.
func nullTimestamp(raw map[string]any) {
	if raw == nil {
		return
	}
	metadata := object(raw, "metadata")
	if metadata == nil {
		metadata = map[string]any{}
		raw["metadata"] = metadata
	}
	if _, exists := metadata["creationTimestamp"]; !exists {
		metadata["creationTimestamp"] = nil
	}
}

func object(parent any, key string) map[string]any {
	fields, _ := parent.(map[string]any)
	out, _ := fields[key].(map[string]any)
	return out
}

func list(parent any, key string) []any {
	fields, _ := parent.(map[string]any)
	out, _ := fields[key].([]any)
	return out
}

// Hash returns the hash that ends the name of a revision: FNV-32 over the data and the collision count in decimal, in
// Kubernetes' safe alphabet.
func Hash(data []byte, collisions int32) string {
	sum := fnv.New32()
	_, _ = sum.Write(data)
	_, _ = sum.Write([]byte(strconv.FormatInt(int64(collisions), 10)))
	return rand.SafeEncodeString(strconv.FormatUint(uint64(sum.Sum32()), 10))
}

// Name returns the name of the owner's revision with that hash; the owner's name is cut at 223 characters.
func Name(owner, hash string) string {
	return owner[:min(len(owner), maxNamePrefix)] + "-" + hash
}

// Template returns the pod template in a revision. A stray $patch and fields that the library does not know are ignored;
// data that is not a template is an error that names the revision.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var content struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(r.Data.Raw, &content); err != nil {
		return nil, fmt.Errorf("data of ControllerRevision %s/%s: %w", r.Namespace, r.Name, err)
	}
	if content.Spec.Template == nil {
		return nil, fmt.Errorf("data of ControllerRevision %s/%s: %w", r.Namespace, r.Name, errors.New("no spec.template"))
	}
	return content.Spec.Template, nil
}

// Holds tells whether r is a revision of template t, whose data is data: by its bytes or, as another version of
// Kubernetes may have written them, by its meaning. Malformed data holds no template.
func Holds(r *appsv1.ControllerRevision, t *corev1.PodTemplateSpec, data []byte) bool {
	if string(r.Data.Raw) == string(data) {
		return true
	}
	stored, err := Template(r)
	return err == nil && template.Equal(stored, t)
}

// Sort orders revisions from the oldest to the newest: by number, then creation time, then name.
func Sort(revisions []*appsv1.ControllerRevision) {
	slices.SortFunc(revisions, func(a, b *appsv1.ControllerRevision) int {
		if a.Revision != b.Revision {
			if a.Revision < b.Revision {
				return -1
			}
			return 1
		}
		if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
			if a.CreationTimestamp.Before(&b.CreationTimestamp) {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// Live is a set of revisions that must be kept, by their short hash: pods carry either the name or the short hash
// (cloneset 4.1).
type Live map[string]struct{}

// Add puts the revisions with these names, or values of the pods' revision labels, into the set. Empty values are
// ignored.
func (l Live) Add(values ...string) {
	for _, value := range values {
		if value != "" {
			l[short(value)] = struct{}{}
		}
	}
}

// Has tells whether the revision of that name is in the set.
func (l Live) Has(name string) bool {
	_, ok := l[short(name)]
	return ok
}

func short(revision string) string { return revision[strings.LastIndexByte(revision, '-')+1:] }

// Excess returns the revisions to delete: the oldest ones that are not live, until limit of these remain (cloneset
// 5.14). sorted is ordered as by Sort; a negative limit counts as 0.
func Excess(sorted []*appsv1.ControllerRevision, live Live, limit int32) []*appsv1.ControllerRevision {
	var dead []*appsv1.ControllerRevision
	for _, r := range sorted {
		if !live.Has(r.Name) && r.DeletionTimestamp == nil {
			dead = append(dead, r)
		}
	}
	return dead[:max(0, len(dead)-int(max(limit, 0)))]
}
