// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestRules changes samples by a merge patch that a rule of the schema refuses, or that it must let pass.
func TestRules(t *testing.T) {
	for name, tc := range map[string]struct {
		sample, patch string
		refused       string // part of the message; "" means accepted
	}{
		"CloneSet selector":             {"apps_v1beta1_cloneset", `{"spec":{"selector":{"matchLabels":{"app":"x"}}}}`, "'selector' is immutable"},
		"CloneSet selector, v1alpha1":   {"apps_v1alpha1_cloneset", `{"spec":{"selector":{"matchLabels":{"app":"x"}}}}`, "'selector' is immutable"},
		"CloneSet same selector":        {"apps_v1beta1_cloneset", `{"spec":{"selector":{"matchExpressions":[]}}}`, ""},
		"CloneSet negative":             {"apps_v1beta1_cloneset", `{"spec":{"replicas":-1}}`, "greater than or equal to 0"},
		"CloneSet type":                 {"apps_v1beta1_cloneset", `{"spec":{"updateStrategy":{"type":"Never"}}}`, "must be one of"},
		"CloneSet OnDelete":             {"apps_v1alpha1_cloneset", `{"spec":{"updateStrategy":{"type":"OnDelete"}}}`, ""},
		"CloneSet empty type":           {"apps_v1beta1_cloneset", `{"spec":{"updateStrategy":{"type":""}}}`, ""},
		"CloneSet both priorities":      {"apps_v1beta1_cloneset", `{"spec":{"updateStrategy":{"rollingUpdate":{"priorityStrategy":{"orderPriority":[{"orderedKey":"a"}],"weightPriority":[{"weight":1,"matchSelector":{"matchLabels":{"a":"b"}}}]}}}}}`, "must not be given together"},
		"StatefulSet service":           {"apps_v1beta1_statefulset", `{"spec":{"serviceName":"x"}}`, "serviceName cannot be changed"},
		"StatefulSet management":        {"apps_v1beta1_statefulset", `{"spec":{"podManagementPolicy":"OrderedReady"}}`, "podManagementPolicy cannot be changed"},
		"StatefulSet minReadySeconds":   {"apps_v1beta1_statefulset", `{"spec":{"updateStrategy":{"rollingUpdate":{"minReadySeconds":301}}}}`, "less than or equal to 300"},
		"StatefulSet claims":            {"apps_v1beta1_statefulset", `{"spec":{"volumeClaimTemplates":[]}}`, ""},
		"S_pod_lifecycle_32 hook":       {"apps_v1beta1_daemonset", `{"spec":{"lifecycle":{"inPlaceUpdate":{}}}}`, "not supported"},
		"DaemonSet preDelete":           {"apps_v1beta1_daemonset", `{"spec":{"lifecycle":{"preDelete":{"finalizersHandler":["a/b"]}}}}`, ""},
		"UnitedDeployment CloneSet":     {"apps_v1beta1_uniteddeployment", `{"spec":{"template":{"cloneSetTemplate":{"spec":{"selector":{"matchLabels":{"app":"other"}}}}}}}`, ""},
		"SidecarSet without selector":   {"apps_v1beta1_sidecarset", `{"spec":{"selector":null}}`, "selector must be given"},
		"SidecarSet empty selector":     {"apps_v1beta1_sidecarset", `{"spec":{"selector":{"matchLabels":null}}}`, "must not be empty"},
		"SidecarSet selector may move":  {"apps_v1beta1_sidecarset", `{"spec":{"selector":{"matchLabels":{"app":"y"}}}}`, ""},
		"BroadcastJob never with ttl":   {"apps_v1beta1_broadcastjob", `{"spec":{"completionPolicy":{"type":"Never"}}}`, "must not be given with type Never"},
		"BroadcastJob never":            {"apps_v1beta1_broadcastjob", `{"spec":{"completionPolicy":{"type":"Never","ttlSecondsAfterFinished":null}}}`, ""},
		"ImagePullJob two selectors":    {"apps_v1beta1_imagepulljob", `{"spec":{"podSelector":{"matchLabels":{"a":"b"}}}}`, "must not be given together"},
		"ImagePullJob names and labels": {"apps_v1beta1_imagepulljob", `{"spec":{"selector":{"names":["n"]}}}`, "must not be given together"},
		"ImagePullJob names":            {"apps_v1beta1_imagepulljob", `{"spec":{"selector":{"names":["n"],"matchLabels":null}}}`, ""},
		"ImageListPullJob none":         {"apps_v1beta1_imagelistpulljob", `{"spec":{"images":[]}}`, "at least 1"},
		"recreate request":              {"apps_v1beta1_containerrecreaterequest", `{"spec":{"podName":"x"}}`, "podName cannot be changed"},
		"recreate request, v1alpha1":    {"apps_v1alpha1_containerrecreaterequest", `{"spec":{"podName":"x"}}`, "podName cannot be changed"},
		"cron job zone":                 {"apps_v1beta1_advancedcronjob", `{"spec":{"timeZone":"LOCAL"}}`, "must not be Local"},
		"cron job zone may go":          {"apps_v1beta1_advancedcronjob", `{"spec":{"timeZone":null}}`, ""},
		"probe selector":                {"apps_v1alpha1_podprobemarker", `{"spec":{"selector":{"matchLabels":{"app":"x"}}}}`, "selector cannot be changed"},
		"probe of two kinds":            {"apps_v1alpha1_podprobemarker", `{"spec":{"probes":[{"name":"a","containerName":"c","podConditionType":"a","probe":{"exec":{"command":["x"]},"tcpSocket":{"port":1}}}]}}`, "exactly one"},
		"probe without effect":          {"apps_v1alpha1_podprobemarker", `{"spec":{"probes":[{"name":"a","containerName":"c","probe":{"exec":{"command":["x"]}}}]}}`, "must be given"},
		"pod state target":              {"apps_v1beta1_persistentpodstate", `{"spec":{"targetRef":{"name":"x"}}}`, "cannot be changed"},
		"spread target":                 {"apps_v1beta1_workloadspread", `{"spec":{"targetRef":{"name":"x"}}}`, "cannot be changed"},
		"spread target version":         {"apps_v1beta1_workloadspread", `{"spec":{"targetRef":{"apiVersion":"apps.kruise.io/v1alpha1"}}}`, ""},
		"distribution kind":             {"apps_v1beta1_resourcedistribution", `{"spec":{"resource":{"kind":"Secret"}}}`, "cannot be changed"},
		"distribution name":             {"apps_v1beta1_resourcedistribution", `{"spec":{"resource":{"metadata":{"name":"x"}}}}`, "cannot be changed"},
		"distribution data":             {"apps_v1beta1_resourcedistribution", `{"spec":{"resource":{"data":{"level":"debug"}}}}`, ""},
		"budget of two":                 {"policy_v1beta1_podunavailablebudget", `{"spec":{"minAvailable":1}}`, "exactly one of maxUnavailable and minAvailable"},
		"budget exchanged":              {"policy_v1beta1_podunavailablebudget", `{"spec":{"targetRef":null,"selector":{"matchLabels":{"a":"b"}}}}`, "cannot be exchanged"},
		"budget loosened":               {"policy_v1alpha1_podunavailablebudget", `{"spec":{"maxUnavailable":null,"minAvailable":3}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			sample := readSample(t, filepath.Join(samples, tc.sample+".yaml"))
			sample.SetName("rule-" + sample.GetName())
			crd := crds[sample.GroupVersionKind().GroupKind()]
			endpoint := resource(crd, sample.GroupVersionKind().Version, sample.GetNamespace())
			if _, err := endpoint.Create(ctx, sample, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := endpoint.Delete(context.WithoutCancel(ctx), sample.GetName(), metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}()
			_, err := endpoint.Patch(ctx, sample.GetName(), types.MergePatchType, []byte(tc.patch), metav1.PatchOptions{})
			switch {
			case tc.refused == "":
				if err != nil {
					t.Errorf("refused: %v", err)
				}
			case !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.refused):
				t.Errorf("got %v, want a refusal with %q", err, tc.refused)
			}
		})
	}
}
