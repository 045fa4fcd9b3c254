// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/dump"
)

const (
	// ClaimHashAnnotation is the annotation of a CloneSet's revision with ClaimHash of the claim templates that were in
	// force when it was written (cloneset 4.1).
	ClaimHashAnnotation = "kruise.io/cloneset-volumeclaimtemplate-hash"

	// ClaimsAnnotation is the annotation of a revision with those claim templates themselves, as a JSON list. It is an
	// annotation, not data, so that the data keeps its form (cloneset, weakness 16). OpenKruise does not write it.
	ClaimsAnnotation = "kruise.io/volume-claim-templates"

	// maxClaimsBytes bounds ClaimsAnnotation; longer lists are not stored.
	maxClaimsBytes = 64 << 10

	// maxAnnotationsBytes is the apiserver's limit for all annotations of an object.
	maxAnnotationsBytes = 256 << 10
)

// hashedClaim has the form in which a claim template enters the hash. Its empty timestamp is part of the form.
type hashedClaim struct {
	Metadata struct {
		Name              string  `json:"name,omitempty"`
		CreationTimestamp *string `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec   corev1.PersistentVolumeClaimSpec `json:"spec"`
	Status struct{}                         `json:"status"`
}

// ClaimHash returns the hash of claim templates: decimal FNV-32a over the deep rendering of their JSON list, sorted by
// name, with no metadata but the name (cloneset 5.3). It is empty if there are none.
func ClaimHash(claims []corev1.PersistentVolumeClaim) (string, error) {
	if len(claims) == 0 {
		return "", nil
	}
	hashed := make([]hashedClaim, len(claims))
	for i := range claims {
		hashed[i].Metadata.Name = claims[i].Name
		hashed[i].Spec = claims[i].Spec
	}
	slices.SortStableFunc(hashed, func(a, b hashedClaim) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	encoded, err := json.Marshal(hashed)
	if err != nil {
		return "", fmt.Errorf("encoding the claim templates: %w", err)
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(dump.ForHash(encoded)))
	return strconv.FormatUint(uint64(sum.Sum32()), 10), nil
}

// Claims returns the claim templates that were in force when r was written; false if r does not tell (it was written by
// OpenKruise, they were too long, or the annotation is malformed).
func Claims(r *appsv1.ControllerRevision) ([]corev1.PersistentVolumeClaim, bool) {
	text, ok := r.Annotations[ClaimsAnnotation]
	if !ok {
		return nil, false
	}
	var out []corev1.PersistentVolumeClaim
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, false
	}
	return out, true
}

// annotateClaims records the owner's claim templates in annotations; nothing for kinds that don't.
func (o *Owner) annotateClaims(annotations map[string]string) error {
	if o.ClaimHashKey == "" {
		return nil
	}
	hash, err := ClaimHash(o.Claims)
	if err != nil {
		return err
	}
	annotations[o.ClaimHashKey] = hash
	delete(annotations, ClaimsAnnotation)
	kept := make([]corev1.PersistentVolumeClaim, 0, len(o.Claims))
	for i := range o.Claims {
		kept = append(kept, corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: o.Claims[i].Name, Labels: o.Claims[i].Labels, Annotations: o.Claims[i].Annotations},
			Spec:       o.Claims[i].Spec,
		})
	}
	encoded, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("encoding the claim templates: %w", err)
	}
	if len(encoded) <= maxClaimsBytes && size(annotations)+len(ClaimsAnnotation)+len(encoded) <= maxAnnotationsBytes {
		annotations[ClaimsAnnotation] = string(encoded)
	}
	return nil
}

func size(annotations map[string]string) int {
	total := 0
	for key, value := range annotations {
		total += len(key) + len(value)
	}
	return total
}
