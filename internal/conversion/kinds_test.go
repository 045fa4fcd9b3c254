// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// step converts to a version and looks at a part of the result.
type step struct {
	version string
	want    map[string]any // by key: the expected value, or nil for absent
}

// TestTables goes through the conversion tables of the specs: each object is converted step by step, and after each step
// the named parts must be as given.
func TestTables(t *testing.T) {
	const alpha, beta = spokeVersion, hubVersion
	for name, tc := range map[string]struct {
		object string
		steps  []step
	}{
		"what v1alpha1 StatefulSets lack survives them": {
			object: `{"apiVersion":"apps.kruise.io/v1beta1","kind":"StatefulSet","metadata":{"name":"a"},
				"spec":{"replicas":3,"reserveOrdinals":[1,"3-5"],"lifecycle":{"preDelete":{"finalizersHandler":["x/y"]}}}}`,
			steps: []step{
				{alpha, map[string]any{"spec.reserveOrdinals": nil, "spec.replicas": 3.0}},
				{beta, map[string]any{
					"spec.reserveOrdinals": []any{1.0, "3-5"}, "spec.lifecycle.preDelete.finalizersHandler": []any{"x/y"},
					"metadata.annotations": nil,
				}},
			},
		},
		"S_advanced_daemonset_28 partitioned scaling is an annotation": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"DaemonSet","metadata":{"name":"a",
				"annotations":{"daemonset.kruise.io/progressive-create-pod":"true"}},"status":{"daemonSetHash":"h"}}`,
			steps: []step{
				{beta, map[string]any{"spec.scaleStrategy.partitionedScaling": true, "status.updateRevision": "h", "metadata.annotations": nil}},
				{alpha, map[string]any{"metadata.annotations.daemonset~kruise~io/progressive-create-pod": "true", "status.daemonSetHash": "h"}},
			},
		},
		"surging DaemonSets are standard": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"DaemonSet","metadata":{"name":"a"},
				"spec":{"updateStrategy":{"rollingUpdate":{"rollingUpdateType":"Surging","maxSurge":1,"maxUnavailable":0}}}}`,
			steps: []step{
				{beta, map[string]any{"spec.updateStrategy.rollingUpdate": map[string]any{"rollingUpdateType": "Standard", "maxSurge": 1.0, "maxUnavailable": 0.0}}},
				{alpha, map[string]any{"spec.updateStrategy.rollingUpdate": map[string]any{"rollingUpdateType": "Standard", "maxSurge": 1.0, "maxUnavailable": 0.0}}},
			},
		},
		"S_sidecarset_3 namespace and custom version": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"SidecarSet","metadata":{"name":"a",
				"labels":{"apps.kruise.io/sidecarset-custom-version":"v1"}},"spec":{"namespace":"ns1"}}`,
			steps: []step{
				{beta, map[string]any{
					"spec.namespaceSelector.matchLabels": map[string]any{"kubernetes.io/metadata.name": "ns1"},
					"spec.customVersion":                 "v1", "metadata.labels": nil,
				}},
				{alpha, map[string]any{
					"spec.namespace": nil, "spec.namespaceSelector.matchLabels": map[string]any{"kubernetes.io/metadata.name": "ns1"},
					"metadata.labels": map[string]any{"apps.kruise.io/sidecarset-custom-version": "v1"}, "metadata.annotations": nil,
				}},
			},
		},
		"S_uniteddeployment_32 maps per subset": {
			object: `{"apiVersion":"apps.kruise.io/v1beta1","kind":"UnitedDeployment","metadata":{"name":"a"},"status":{
				"updatedRevision":"r","subsetStatuses":[{"name":"x","replicas":2,"partition":1},{"name":"y","replicas":3}]}}`,
			steps: []step{
				{alpha, map[string]any{
					"status.subsetReplicas": map[string]any{"x": 2.0, "y": 3.0},
					"status.updateStatus":   map[string]any{"updatedRevision": "r", "currentPartitions": map[string]any{"x": 1.0, "y": 0.0}},
				}},
				{beta, map[string]any{"status.updatedRevision": "r", "metadata.annotations": nil}},
			},
		},
		"S_workloadspread_29 node selectors": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"WorkloadSpread","metadata":{"name":"a"},"spec":{"subsets":[
				{"name":"x","requiredNodeSelectorTerm":{"matchExpressions":[{"key":"k","operator":"Exists"}]}}]}}`,
			steps: []step{
				{beta, map[string]any{"spec.subsets": []any{map[string]any{"name": "x",
					"requiredNodeSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": "k", "operator": "Exists"}}}}}}},
				{alpha, map[string]any{"spec.subsets": []any{map[string]any{"name": "x",
					"requiredNodeSelectorTerm": map[string]any{"matchExpressions": []any{map[string]any{"key": "k", "operator": "Exists"}}}}}}},
			},
		},
		"S_workloadspread_30 a condition without reason": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"WorkloadSpread","metadata":{"name":"a"},"status":{"subsetStatuses":[
				{"name":"x","replicas":1,"missingReplicas":0,"conditions":[{"type":"Schedulable","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"}]}]}}`,
			steps: []step{
				{beta, map[string]any{"status.subsetStatuses": []any{map[string]any{"name": "x", "replicas": 1.0, "missingReplicas": 0.0,
					"conditions": []any{map[string]any{"type": "Schedulable", "status": "True", "reason": "Unknown", "message": "",
						"lastTransitionTime": "2026-01-02T03:04:05Z"}}}}}},
			},
		},
		"S_persistentpodstate_25 keys": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"PersistentPodState","metadata":{"name":"a"},"spec":{
				"requiredPersistentTopology":{"nodeTopologyKeys":["z"]},
				"preferredPersistentTopology":[{"weight":5,"preference":{"nodeTopologyKeys":["h"]}}]},
				"status":{"observedGeneration":1,"podStates":{"db-0":{"nodeName":"n"}}}}`,
			steps: []step{
				{beta, map[string]any{"spec.requiredPersistentTopology.keys": []any{"z"}, "status.podStates": map[string]any{"db-0": map[string]any{"nodeName": "n"}}}},
				{alpha, map[string]any{
					"spec.requiredPersistentTopology.nodeTopologyKeys": []any{"z"},
					"spec.preferredPersistentTopology":                 []any{map[string]any{"weight": 5.0, "preference": map[string]any{"nodeTopologyKeys": []any{"h"}}}},
				}},
			},
		},
		"S_resourcedistribution_20 selector and failed namespaces": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"ResourceDistribution","metadata":{"name":"a"},"spec":{
				"targets":{"namespaceLabelSelector":{"matchLabels":{"a":"b"}}}},
				"status":{"conditions":[{"type":"ConflictOccurred","status":"True","failedNamespace":["x"]}]}}`,
			steps: []step{
				{beta, map[string]any{
					"spec.targets.namespaceSelector.matchLabels": map[string]any{"a": "b"},
					"status.conditions":                          []any{map[string]any{"type": "ConflictOccurred", "status": "True", "failedNamespaces": []any{"x"}}},
				}},
				{alpha, map[string]any{
					"spec.targets.namespaceLabelSelector.matchLabels": map[string]any{"a": "b"},
					"status.conditions": []any{map[string]any{"type": "ConflictOccurred", "status": "True", "failedNamespace": []any{"x"}}},
				}},
			},
		},
		"S_container_restart_27 snapshot and grace are annotations": {
			object: `{"apiVersion":"apps.kruise.io/v1beta1","kind":"ContainerRecreateRequest","metadata":{"name":"a"},"status":{"phase":"Pending",
				"containerStatusSnapshot":[{"name":"c","ready":true,"restartCount":2,"containerID":"containerd://1"}],
				"conditions":[{"type":"PreRecreateGrace","status":"True","reason":"PreRecreateGrace","message":"m","lastTransitionTime":"2026-01-02T03:04:05Z"}]}}`,
			steps: []step{
				{alpha, map[string]any{
					"metadata.annotations.crr~apps~kruise~io/sync-container-statuses": `[{"name":"c","ready":true,"restartCount":2,"containerID":"containerd://1"}]`,
					"metadata.annotations.crr~apps~kruise~io/unready-acquired":        "2026-01-02T03:04:05Z",
				}},
				{beta, map[string]any{"metadata.annotations": nil, "status.containerStatusSnapshot": []any{
					map[string]any{"name": "c", "ready": true, "restartCount": 2.0, "containerID": "containerd://1"}}}},
			},
		},
		"S_container_restart_28 garbage is dropped": {
			object: `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"ContainerRecreateRequest","metadata":{"name":"a",
				"annotations":{"crr.apps.kruise.io/unready-acquired":"garbage"}}}`,
			steps: []step{{beta, map[string]any{"status.conditions": nil}}},
		},
		"the newer template of AdvancedCronJobs is an annotation": {
			object: `{"apiVersion":"apps.kruise.io/v1beta1","kind":"AdvancedCronJob","metadata":{"name":"a"},"spec":{"schedule":"* * * * *",
				"template":{"imageListPullJobTemplate":{"spec":{"images":["nginx"],"completionPolicy":{"type":"Always"}}}}}}`,
			steps: []step{
				{alpha, map[string]any{
					"spec.template.imageListPullJobTemplate":                               nil,
					"metadata.annotations.apps~kruise~io/acj-image-list-pull-job-template": `{"metadata":{},"spec":{"images":["nginx"],"completionPolicy":{"type":"Always"}}}`,
				}},
				{beta, map[string]any{"metadata.annotations": nil, "spec.template.imageListPullJobTemplate.spec.images": []any{"nginx"}}},
			},
		},
		"S_image_pulling_40 the mode of pull secrets": {
			object: `{"apiVersion":"apps.kruise.io/v1beta1","kind":"NodeImage","metadata":{"name":"a"},"spec":{"images":{"nginx":{
				"pullSecrets":[{"namespace":"n","name":"s","mode":"batch"},{"namespace":"n","name":"t"}],
				"sandboxConfig":{"labels":{"a":"b"}},"tags":[{"tag":"1","version":2,"ownerReferences":[{"kind":"ImagePullJob","uid":"u"}]}]}}}}`,
			steps: []step{
				{alpha, map[string]any{"spec.images.nginx.pullSecrets": []any{
					map[string]any{"namespace": "n", "name": "s"}, map[string]any{"namespace": "n", "name": "t"}},
					"spec.images.nginx.sandboxConfig.labels": map[string]any{"a": "b"},
					"spec.images.nginx.tags": []any{map[string]any{"tag": "1", "version": 2.0,
						"ownerReferences": []any{map[string]any{"kind": "ImagePullJob", "uid": "u"}}}},
				}},
				{beta, map[string]any{"spec.images.nginx.pullSecrets": []any{
					map[string]any{"namespace": "n", "name": "s", "mode": "batch"}, map[string]any{"namespace": "n", "name": "t"}}}},
			},
		},
		"operations of a budget in an annotation": {
			object: `{"apiVersion":"policy.kruise.io/v1alpha1","kind":"PodUnavailableBudget","metadata":{"name":"a",
				"annotations":{"kruise.io/pub-protect-operations":"EVICT, UPDATE"}}}`,
			steps: []step{
				{beta, map[string]any{"spec.protectOperations": []any{"EVICT", "UPDATE"}}},
				{alpha, map[string]any{"metadata.annotations.kruise~io/pub-protect-operations": "EVICT, UPDATE"}},
			},
		},
		"S_podunavailablebudget_15 fields are annotations": {
			object: `{"apiVersion":"policy.kruise.io/v1beta1","kind":"PodUnavailableBudget","metadata":{"name":"a"},
				"spec":{"protectOperations":["DELETE","RESIZE"],"protectTotalReplicas":9,"ignoredPodSelector":{"matchLabels":{"a":"b"}}}}`,
			steps: []step{
				{alpha, map[string]any{
					"metadata.annotations.kruise~io/pub-protect-operations":     "DELETE,RESIZE",
					"metadata.annotations.pub~kruise~io/protect-total-replicas": "9",
					"metadata.annotations.pub~kruise~io/ignored-pod-selector":   `{"matchLabels":{"a":"b"}}`,
				}},
				{beta, map[string]any{"spec.protectTotalReplicas": 9.0, "metadata.annotations": nil}},
			},
		},
		"S_rollouts_33 weight and style": {
			object: `{"apiVersion":"rollouts.kruise.io/v1alpha1","kind":"Rollout","metadata":{"name":"a"},"spec":{
				"objectRef":{"workloadRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"}},"strategy":{"canary":{"steps":[{"weight":20}]}}}}`,
			steps: []step{
				{beta, map[string]any{
					"spec.strategy.canary.steps":                        []any{map[string]any{"traffic": "20%", "replicas": "20%"}},
					"spec.strategy.canary.enableExtraWorkloadForCanary": true, "spec.workloadRef.name": "d",
				}},
				{alpha, map[string]any{
					"spec.strategy.canary.steps":                            []any{map[string]any{"weight": 20.0, "replicas": "20%"}},
					"metadata.annotations.rollouts~kruise~io/rolling-style": "canary",
				}},
			},
		},
		"S_rollouts_33 partition": {
			object: `{"apiVersion":"rollouts.kruise.io/v1beta1","kind":"Rollout","metadata":{"name":"a"},"spec":{
				"workloadRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"strategy":{"canary":{"steps":[{"traffic":"20%","replicas":"20%"}]}}}}`,
			steps: []step{
				{alpha, map[string]any{
					"spec.strategy.canary.steps":                            []any{map[string]any{"weight": 20.0, "replicas": "20%"}},
					"metadata.annotations.rollouts~kruise~io/rolling-style": "partition",
				}},
				{beta, map[string]any{"metadata.annotations": nil, "spec.strategy.canary.enableExtraWorkloadForCanary": nil}},
			},
		},
		"S_rollouts_34 blue-green survives v1alpha1": {
			object: `{"apiVersion":"rollouts.kruise.io/v1beta1","kind":"Rollout","metadata":{"name":"a"},"spec":{
				"workloadRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},
				"strategy":{"blueGreen":{"steps":[{"replicas":"100%","traffic":"0%"}]}}},"status":{"currentStepIndex":1,"currentStepState":"StepPaused"}}`,
			steps: []step{
				{alpha, map[string]any{"spec.strategy.blueGreen": nil}},
				{beta, map[string]any{
					"spec.strategy.blueGreen.steps": []any{map[string]any{"replicas": "100%", "traffic": "0%"}},
					"status.currentStepIndex":       1.0, "metadata.annotations": nil,
				}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			object := []byte(tc.object)
			for i, s := range tc.steps {
				var head struct{ APIVersion string }
				if err := json.Unmarshal(object, &head); err != nil {
					t.Fatal(err)
				}
				group := head.APIVersion[:len(head.APIVersion)-len("/v1beta1")]
				if head.APIVersion[len(head.APIVersion)-len(alpha):] == alpha {
					group = head.APIVersion[:len(head.APIVersion)-len("/v1alpha1")]
				}
				converted, err := ConvertRaw(object, group+"/"+s.version)
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.Unmarshal(converted, &got); err != nil {
					t.Fatal(err)
				}
				for path, want := range s.want {
					if diff := cmp.Diff(want, at(got, path)); diff != "" {
						t.Errorf("step %d: %s (-want +got):\n%s", i, path, diff)
					}
				}
				object = converted
			}
		})
	}
}

// TestClearedThroughV1alpha1_S_podunavailablebudget_16 removes the annotation as a v1alpha1 writer would.
func TestClearedThroughV1alpha1_S_podunavailablebudget_16(t *testing.T) {
	spoke, err := ConvertRaw([]byte(`{"apiVersion":"policy.kruise.io/v1beta1","kind":"PodUnavailableBudget","metadata":{"name":"a"},
		"spec":{"protectTotalReplicas":9}}`), "policy.kruise.io/v1alpha1")
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(spoke, &object); err != nil {
		t.Fatal(err)
	}
	delete(at(object, "metadata.annotations").(map[string]any), "pub.kruise.io/protect-total-replicas")
	hub, err := ConvertRaw([]byte(mustJSON(t, object)), "policy.kruise.io/v1beta1")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(hub, &got); err != nil {
		t.Fatal(err)
	}
	if v := at(got, "spec.protectTotalReplicas"); v != nil {
		t.Errorf("protectTotalReplicas is %v", v)
	}
}

// at looks up a path of keys separated by dots; ~ stands for a dot in a key.
func at(v any, path string) any {
	for _, key := range splitPath(path) {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[key]
	}
	return v
}

func splitPath(path string) []string {
	keys := []string{""}
	for _, r := range path {
		last := len(keys) - 1
		switch r {
		case '.':
			keys = append(keys, "")
		case '~':
			keys[last] += "."
		default:
			keys[last] += string(r)
		}
	}
	return keys
}
