// SPDX-License-Identifier: Apache-2.0

package pub

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// UpdatePriorityStrategy orders pods for updating. At most one of weightPriority and orderPriority may be given.
// +kubebuilder:validation:XValidation:rule="!(has(self.orderPriority) && size(self.orderPriority) > 0 && has(self.weightPriority) && size(self.weightPriority) > 0)",message="orderPriority and weightPriority must not be given together"
type UpdatePriorityStrategy struct {
	// orderPriority orders by the numbers at the end of label values: the first listed key found among the pod's
	// labels decides its level, and inside a level the higher number goes first.
	// +optional
	OrderPriority []UpdatePriorityOrderTerm `json:"orderPriority,omitempty"`

	// weightPriority orders by weight: a pod weighs the sum of the weights of all terms that match it, and the
	// heavier goes first.
	// +optional
	WeightPriority []UpdatePriorityWeightTerm `json:"weightPriority,omitempty"`
}

// UpdatePriorityOrderTerm names a pod label whose value ends in a number.
type UpdatePriorityOrderTerm struct {
	// orderedKey is the key of the label; it must not be empty.
	OrderedKey string `json:"orderedKey"`
}

// UpdatePriorityWeightTerm gives a weight to the pods it matches.
type UpdatePriorityWeightTerm struct {
	// weight is added to the weight of matching pods, 0 to 100.
	Weight int32 `json:"weight"`

	// matchSelector selects pods by label; it must not be empty.
	MatchSelector metav1.LabelSelector `json:"matchSelector"`
}

// UpdateScatterStrategy spreads the pods that carry one of these labels over the update order, so that they don't
// follow one another. The pairs must be unique.
type UpdateScatterStrategy []UpdateScatterTerm

// UpdateScatterTerm is a label with its value.
type UpdateScatterTerm struct {
	// key is the key of the label; it must not be empty.
	Key string `json:"key"`

	// value is the value of the label.
	Value string `json:"value"`
}
