// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/policy/v1alpha1"
	"kruise.io/kruise/api/policy/v1beta1"
)

var podUnavailableBudget = newKind("policy.kruise.io", "PodUnavailableBudget", podUnavailableBudgetToHub, podUnavailableBudgetFromHub)

// podUnavailableBudgetToHub follows podunavailablebudget 3.3. The annotations stay in metadata, as the contract says;
// what they cannot be read as is left out.
func podUnavailableBudgetToHub(in *v1alpha1.PodUnavailableBudget, out *v1beta1.PodUnavailableBudget) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if operations, ok := parseOperations(in.Annotations[v1alpha1.PubProtectOperationAnnotation]); ok {
		out.Spec.ProtectOperations = operations
	}
	if n, ok := parseInt32(in.Annotations[v1alpha1.PubProtectTotalReplicasAnnotation]); ok {
		out.Spec.ProtectTotalReplicas = &n
	}
	if selector, ok := parseSelector(in.Annotations[v1alpha1.PubIgnoredPodSelectorAnnotation]); ok {
		out.Spec.IgnoredPodSelector = selector
		removeAnnotation(out, v1alpha1.PubIgnoredPodSelectorAnnotation)
	}
}

// parseOperations reads a comma-separated list, and reports false if it is empty or has an item of another kind.
func parseOperations(text string) ([]v1beta1.PubOperation, bool) {
	var operations []v1beta1.PubOperation
	for item := range strings.SplitSeq(text, ",") {
		switch operation := v1beta1.PubOperation(strings.TrimSpace(item)); operation {
		case "":
		case v1beta1.PubDeleteOperation, v1beta1.PubUpdateOperation, v1beta1.PubEvictOperation, v1beta1.PubResizeOperation:
			operations = append(operations, operation)
		default:
			return nil, false
		}
	}
	return operations, len(operations) > 0
}

func parseSelector(text string) (*metav1.LabelSelector, bool) {
	if text == "" {
		return nil, false
	}
	var selector *metav1.LabelSelector
	if json.Unmarshal([]byte(text), &selector) != nil || selector == nil {
		return nil, false
	}
	return selector, true
}

// podUnavailableBudgetFromHub follows podunavailablebudget 3.3: annotations say what the fields say, and are removed
// where a field is absent, unless they could not be read in the first place.
func podUnavailableBudgetFromHub(in *v1beta1.PodUnavailableBudget, out *v1alpha1.PodUnavailableBudget) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)

	if len(in.Spec.ProtectOperations) > 0 {
		items := make([]string, 0, len(in.Spec.ProtectOperations))
		for _, operation := range in.Spec.ProtectOperations {
			items = append(items, string(operation))
		}
		setAnnotation(out, v1alpha1.PubProtectOperationAnnotation, strings.Join(items, ","))
	} else if _, ok := parseOperations(in.Annotations[v1alpha1.PubProtectOperationAnnotation]); ok {
		removeAnnotation(out, v1alpha1.PubProtectOperationAnnotation)
	}

	if n := in.Spec.ProtectTotalReplicas; n != nil {
		setAnnotation(out, v1alpha1.PubProtectTotalReplicasAnnotation, strconv.Itoa(int(*n)))
	} else if _, ok := parseInt32(in.Annotations[v1alpha1.PubProtectTotalReplicasAnnotation]); ok {
		removeAnnotation(out, v1alpha1.PubProtectTotalReplicasAnnotation)
	}

	if selector := in.Spec.IgnoredPodSelector; selector != nil {
		if raw, err := json.Marshal(selector); err == nil {
			setAnnotation(out, v1alpha1.PubIgnoredPodSelectorAnnotation, string(raw))
		}
	} else if _, ok := parseSelector(in.Annotations[v1alpha1.PubIgnoredPodSelectorAnnotation]); ok {
		removeAnnotation(out, v1alpha1.PubIgnoredPodSelectorAnnotation)
	}
}
