// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

var containerRecreateRequest = newKind("apps.kruise.io", "ContainerRecreateRequest", recreateRequestToHub, recreateRequestFromHub)

// recreateRequestToHub follows container-restart 3.3. The annotations stay in metadata, as the contract says.
func recreateRequestToHub(in *v1alpha1.ContainerRecreateRequest, out *v1beta1.ContainerRecreateRequest) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if text := in.Annotations[v1alpha1.ContainerRecreateRequestSyncContainerStatusesKey]; text != "" {
		var snapshot []v1beta1.ContainerRecreateRequestContainerStatus
		if json.Unmarshal([]byte(text), &snapshot) == nil && len(snapshot) > 0 {
			out.Status.ContainerStatusSnapshot = snapshot
		}
	}
	if text := in.Annotations[v1alpha1.ContainerRecreateRequestUnreadyAcquiredKey]; text != "" {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			out.Status.Conditions = []metav1.Condition{{
				Type:               v1beta1.ContainerRecreateRequestPreRecreateGrace,
				Status:             metav1.ConditionTrue,
				Reason:             v1beta1.ContainerRecreateRequestPreRecreateGrace,
				Message:            "Pod has been forced to not-ready for unreadyGracePeriodSeconds drain",
				LastTransitionTime: metav1.NewTime(at),
			}}
		}
	}
}

// recreateRequestFromHub follows container-restart 3.3. The status decides what the annotations say.
func recreateRequestFromHub(in *v1beta1.ContainerRecreateRequest, out *v1alpha1.ContainerRecreateRequest) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if len(in.Status.ContainerStatusSnapshot) > 0 {
		if raw, err := json.Marshal(in.Status.ContainerStatusSnapshot); err == nil {
			setAnnotation(out, v1alpha1.ContainerRecreateRequestSyncContainerStatusesKey, string(raw))
		}
	}
	condition := meta.FindStatusCondition(in.Status.Conditions, v1beta1.ContainerRecreateRequestPreRecreateGrace)
	if condition != nil && condition.Status == metav1.ConditionTrue {
		setAnnotation(out, v1alpha1.ContainerRecreateRequestUnreadyAcquiredKey, condition.LastTransitionTime.UTC().Format(time.RFC3339))
	}
}
