// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	deployment = "Deployment/kruise-controller-manager"
	daemonSet  = "DaemonSet/kruise-daemon"
	guardJob   = "Job/kruise-finalizer"
	mutating   = "MutatingWebhookConfiguration/kruise-mutating-webhook-configuration"
	validating = "ValidatingWebhookConfiguration/kruise-validating-webhook-configuration"
	managers   = "NetworkPolicy/kruise-controller-manager"
	cloneSets  = "CustomResourceDefinition/clonesets.apps.kruise.io"
)

// effect is what a value does: with it, the object holds text that it does not hold by default; or, with a leading "!",
// the other way round. An empty text stands for the object itself.
type effect struct {
	set    string // what follows --set; --set-json if it holds a brace or bracket
	object string
	text   string
}

// effects has an entry for every value. Those of the list without are accepted and do nothing (docs/installation.md).
var effects = map[string]effect{
	"securityProfile":                             {"compat", "ClusterRole/aggregate-kruise-edit-cluster", "sidecarsets"},
	"featureGates":                                {"CloneSetShortHash=true", deployment, "--feature-gates=CloneSetShortHash=true"},
	"installation.namespace":                      {"other", deployment, "namespace: other"},
	"installation.createNamespace":                {"false,installation.namespaceLabelAcknowledged=true", "Namespace/kruise-system", "!"},
	"installation.namespaceLabelAcknowledged":     {"true,installation.createNamespace=false", "Namespace/kruise-system", "!"},
	"installation.daemonConfigNamespace":          {"copies", "Role/kruise-daemon-secret-role", "namespace: copies"},
	"installation.protectNamespaces":              {"true", "Namespace/kruise-system", "policy.kruise.io/delete-protection: Always"},
	"crds.managed":                                {"true", cloneSets, "kind: CustomResourceDefinition"},
	"crds.keep":                                   {"false,crds.managed=true", guardJob, "--everything"},
	"externalCerts.annotations":                   {`{"example.com/inject":"yes"}`, mutating, `example.com/inject: "yes"`},
	"certManager.enabled":                         {"true", "Certificate/kruise-serving-cert", "localhost"},
	"certManager.issuerRef":                       {`{"name":"ours"},certManager.enabled=true`, "Certificate/kruise-serving-cert", "name: ours"},
	"certManager.duration":                        {"100h,certManager.enabled=true", "Certificate/kruise-serving-cert", "duration: 100h"},
	"certManager.renewBefore":                     {"50h,certManager.enabled=true", "Certificate/kruise-serving-cert", "renewBefore: 50h"},
	"enableKubeCacheMutationDetector":             {"true", daemonSet, "KUBE_CACHE_MUTATION_DETECTOR"},
	"imagePullSecrets":                            {`["one",{"name":"two"}]`, deployment, "name: two"},
	"manager.replicas":                            {"3", deployment, "replicas: 3"},
	"manager.image.repository":                    {"registry.example/ours", daemonSet, "image: registry.example/ours:v"},
	"manager.image.tag":                           {"t1", guardJob, "image: openkruise/kruise-manager:t1"},
	"manager.image.digest":                        {"sha256:abc", deployment, "image: openkruise/kruise-manager@sha256:abc"},
	"manager.image.pullPolicy":                    {"Always", daemonSet, "imagePullPolicy: Always"},
	"manager.log.level":                           {"2", deployment, "--v=2"},
	"manager.log.loggingFormat":                   {"json", deployment, "--logging-format=json"},
	"manager.webhook.port":                        {"9999", "Service/kruise-webhook-service", "targetPort: 9999"},
	"manager.webhook.clientCASecret":              {"callers", deployment, "--webhook-client-ca-file=/client-ca/ca.crt"},
	"manager.metrics.port":                        {"8081", deployment, "--metrics-addr=:8081"},
	"manager.healthProbe.port":                    {"8001", deployment, "--health-probe-addr=:8001"},
	"manager.enablePprof":                         {"false", deployment, "--enable-pprof=false"},
	"manager.pprofAddr":                           {"localhost:1", deployment, "--pprof-addr=localhost:1"},
	"manager.watchPullSecrets":                    {"true", deployment, "--watch-pull-secrets"},
	"manager.resyncPeriod":                        {"5m", deployment, "--sync-period=5m"},
	"manager.resources":                           {`{"limits":{"memory":"1Gi"}}`, deployment, "memory: 1Gi"},
	"manager.separateControllers.enabled":         {"true", deployment, "--enable-controllers=false"},
	"manager.separateControllers.replicas":        {"5,manager.separateControllers.enabled=true", "Deployment/kruise-controllers", "replicas: 5"},
	"manager.separateControllers.resources":       {`{"limits":{"memory":"7Gi"}},manager.separateControllers.enabled=true`, "Deployment/kruise-controllers", "memory: 7Gi"},
	"manager.hostNetwork":                         {"true", deployment, "dnsPolicy: ClusterFirstWithHostNet"},
	"manager.nodePlacement":                       {"control-plane", deployment, "key: node-role.kubernetes.io/control-plane"},
	"manager.nodeAffinity":                        {`{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"k","operator":"Exists"}]}]}}`, guardJob, "key: k"},
	"manager.nodeSelector":                        {`{"pool":"infra"}`, guardJob, "pool: infra"},
	"manager.tolerations":                         {`[{"key":"infra","operator":"Exists"}]`, guardJob, "key: infra"},
	"manager.priorityClassName":                   {"high", deployment, "priorityClassName: high"},
	"manager.podDisruptionBudget.enabled":         {"false", "PodDisruptionBudget/kruise-controller-manager", "!"},
	"manager.podDisruptionBudget.minAvailable":    {"2", "PodDisruptionBudget/kruise-controller-manager", "minAvailable: 2"},
	"manager.podAnnotations":                      {`{"a":"b"}`, deployment, "a: b"},
	"manager.podLabels":                           {`{"a":"b"}`, deployment, "a: b"},
	"manager.seLinuxOptions":                      {`{"type":"t"}`, deployment, "seLinuxOptions"},
	"manager.extraArgs":                           {`["--cloneset-workers=7"]`, deployment, "- --cloneset-workers=7"},
	"manager.flags":                               {`{"cloneset-workers":7}`, "ConfigMap/kruise-manager-config", "cloneset-workers: 7"},
	"manager.extraEnvs":                           {`[{"name":"CERTS_RENEW_BEFORE","value":"30d"}]`, deployment, "value: 30d"},
	"webhookConfiguration.timeoutSeconds":         {"7", validating, "timeoutSeconds: 7"},
	"webhookConfiguration.aksIntegration":         {"true", validating, "kubernetes.azure.com/managedby"},
	"webhookConfiguration.excludedNamespaceLabel": {"example.com/out", mutating, "key: example.com/out"},
	"webhookConfiguration.overrides":              {`{"vcloneset.kb.io":{"failurePolicy":"Ignore"}}`, validating, "failurePolicy: Ignore"},
	"daemon.namespace":                            {"agents", daemonSet, "namespace: agents"},
	"daemon.log.level":                            {"2", daemonSet, "--v=2"},
	"daemon.port":                                 {"11111", daemonSet, "--addr=:11111"},
	"daemon.metricsBind":                          {"$(HOST_IP)", daemonSet, "--addr=[$(HOST_IP)]:10221"},
	"daemon.enablePprof":                          {"true", daemonSet, "--enable-pprof=true"},
	"daemon.pprofAddr":                            {"localhost:2", daemonSet, "--pprof-addr=localhost:2"},
	"daemon.socketLocation":                       {"/run/k3s", daemonSet, "path: /run/k3s"},
	"daemon.socketFile":                           {"containerd/containerd.sock", daemonSet, "mountPath: /hostvarrun/containerd"},
	"daemon.nodeRestriction":                      {"off", "ValidatingAdmissionPolicy/kruise-daemon-node-restriction", "!"},
	"daemon.nodeSelector":                         {`{"pool":"apps"}`, daemonSet, "pool: apps"},
	"daemon.affinity":                             {`{"nodeAffinity":null}`, daemonSet, "!virtual-kubelet"},
	"daemon.tolerations":                          {`[{"key":"x","operator":"Exists"}]`, daemonSet, "key: x"},
	"daemon.priorityClassName":                    {"high", daemonSet, "priorityClassName: high"},
	"daemon.maxUnavailable":                       {"3", daemonSet, "maxUnavailable: 3"},
	"daemon.resources":                            {`{"limits":{"memory":"1Gi"}}`, daemonSet, "memory: 1Gi"},
	"daemon.runAsUser":                            {"123", daemonSet, "runAsUser: 123"},
	"daemon.runAsGroup":                           {"123", daemonSet, "runAsGroup: 123"},
	"daemon.seLinuxOptions":                       {`{"type":"t"}`, daemonSet, "seLinuxOptions"},
	"daemon.podAnnotations":                       {`{"a":"b"}`, daemonSet, "a: b"},
	"daemon.podLabels":                            {`{"a":"b"}`, daemonSet, "a: b"},
	"daemon.extraArgs":                            {`["--max-workers-for-pull-image=2"]`, daemonSet, "- --max-workers-for-pull-image=2"},
	"daemon.extraEnvs":                            {`[{"name":"HTTPS_PROXY","value":"http://proxy"}]`, daemonSet, "value: http://proxy"},
	"daemon.credentialProvider.enable":            {"true", daemonSet, "mountPath: /kruise/plugins"},
	"daemon.credentialProvider.hostPath":          {"/opt/p,daemon.credentialProvider.enable=true", daemonSet, "path: /opt/p"},
	"daemon.credentialProvider.configmap":         {"cm,daemon.credentialProvider.enable=true", daemonSet, "name: cm"},
	"daemon.credentialProvider.awsCredentialsDir": {"/root/.aws,daemon.credentialProvider.enable=true", daemonSet, "name: aws-credentials"},
	"serviceAccount.annotations":                  {`{"eks.amazonaws.com/role-arn":"r"}`, "ServiceAccount/kruise-daemon", "eks.amazonaws.com/role-arn: r"},
	"rbac.aggregatedRoles":                        {"false", "ClusterRole/aggregate-kruise-edit", "!"},
	"rbac.aggregateExecKinds":                     {"false", "ClusterRole/aggregate-kruise-edit-exec", "!"},
	"rbac.legacyAggregation":                      {"true", "ClusterRole/aggregate-kruise-admin-cluster", "resourcedistributions"},
	"networkPolicy.enabled":                       {"false", managers, "!"},
	"networkPolicy.apiServerCIDRs":                {`["10.1.0.0/16"]`, managers, "10.1.0.0/16"},
	"networkPolicy.apiServerPorts":                {`[16443]`, managers, "port: 16443"},
	"networkPolicy.metricsFrom":                   {`{"matchLabels":{"team":"monitoring"}}`, managers, "team: monitoring"},
	"networkPolicy.nodeCIDRs":                     {`["10.2.0.0/16"]`, managers, "10.2.0.0/16"},
	"secretDelivery":                              {"broker", daemonSet, "audience: kruise-credential-broker"},
	"metrics.secure":                              {"true", deployment, "--metrics-secure"},
	"monitoring.serviceMonitor.enabled":           {"true", "ServiceMonitor/kruise-manager", "interval: 30s"},
	"monitoring.serviceMonitor.interval":          {"9s,monitoring.serviceMonitor.enabled=true", "ServiceMonitor/kruise-manager", "interval: 9s"},
	"monitoring.serviceMonitor.labels":            {`{"a":"b"},monitoring.serviceMonitor.enabled=true`, "ServiceMonitor/kruise-manager", "a: b"},
	"monitoring.podMonitor.enabled":               {"true", "PodMonitor/kruise-daemon", "portNumber: 10221"},
	"monitoring.podMonitor.interval":              {"9s,monitoring.podMonitor.enabled=true", "PodMonitor/kruise-daemon", "interval: 9s"},
	"monitoring.podMonitor.labels":                {`{"a":"b"},monitoring.podMonitor.enabled=true`, "PodMonitor/kruise-daemon", "a: b"},
	"monitoring.podMonitor.authorization":         {`{"credentials":{"name":"scraper","key":"token"}},monitoring.podMonitor.enabled=true,metrics.secure=true`, "PodMonitor/kruise-daemon", "name: scraper"},
	"monitoring.prometheusRule.enabled":           {"true", "PrometheusRule/kruise", "alert: KruiseNoLeader"},
	"monitoring.prometheusRule.labels":            {`{"a":"b"},monitoring.prometheusRule.enabled=true`, "PrometheusRule/kruise", "a: b"},
	"monitoring.grafanaDashboard.enabled":         {"true", "ConfigMap/kruise-dashboard", "kruise.json"},
	"monitoring.grafanaDashboard.labels":          {`{"a":"b"},monitoring.grafanaDashboard.enabled=true`, "ConfigMap/kruise-dashboard", "a: b"},
	"delegatedCapabilityCheck":                    {"Enforce", deployment, "--delegated-capability-check=Enforce"},
	"helmHooks.preflight":                         {"false", "Job/kruise-preflight", "!"},
	"helmHooks.uninstallGuard":                    {"false", guardJob, "!"},
	"helmHooks.storageMigration":                  {"always", "Job/kruise-storage-migration", "- migrate"},
	"helmHooks.image.repository":                  {"registry.example/hook", guardJob, "image: registry.example/hook:v"},
	"helmHooks.image.tag":                         {"t2", guardJob, "image: openkruise/kruise-manager:t2"},
}

// without are values that this version accepts and that do nothing; the chart's notes say so when one is set.
var without = []string{"daemon.windowsImage.repository", "daemon.windowsImage.tag", "installation.roleListGroups"}

// TestEveryValueHasAnEffect: a value that nothing is made of would be a promise that is not kept (platform W14).
func TestEveryValueHasAnEffect(t *testing.T) {
	t.Parallel()
	known := leaves(t)
	for _, name := range known {
		if _, ok := effects[name]; ok == slices.Contains(without, name) {
			t.Errorf("value %s: its effect must be tested, or it must be among those without", name)
		}
	}
	for name := range effects {
		if !slices.Contains(known, name) {
			t.Errorf("there is no value %s", name)
		}
	}
	const small = "crds.managed=false" // CRDs are most of the time
	usual, err := Template(t.Context(), "--set", small)
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range effects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--set", small}
			value, more, _ := strings.Cut(e.set, ",")
			if strings.ContainsAny(e.set[:1], "{[") {
				end := strings.LastIndexAny(e.set, "}]") + 1
				value, more = e.set[:end], strings.TrimPrefix(e.set[end:], ",")
				args = append(args, "--set-json", name+"="+value)
			} else {
				args = append(args, "--set", name+"="+value)
			}
			if more != "" {
				args = append(args, "--set", more)
			}
			got, err := Template(t.Context(), args...)
			if err != nil {
				t.Fatal(err)
			}
			with, before := got, usual
			text, removed := strings.CutPrefix(e.text, "!")
			if removed {
				with, before = usual, got
			}
			if with[e.object] == nil || !strings.Contains(with.Text(e.object), text) {
				t.Errorf("%s does not hold %q:\n%s", e.object, text, with.Text(e.object))
			}
			if before[e.object] != nil && strings.Contains(before.Text(e.object), text) {
				t.Errorf("%s holds %q in any case", e.object, text)
			}
		})
	}
}

// leaves are the names of all values that can be set.
func leaves(t *testing.T) []string {
	t.Helper()
	var out []string
	walkSchema(t, func(name string, _ map[string]any) { out = append(out, name) })
	return slices.DeleteFunc(out, func(s string) bool { return s == "global" })
}

// walkSchema visits every value that can be set, with its schema.
func walkSchema(t *testing.T, visit func(name string, schema map[string]any)) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Dir(), "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(string, map[string]any)
	walk = func(prefix string, schema map[string]any) {
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			visit(prefix, schema)
			return
		}
		for name, s := range properties {
			walk(strings.TrimPrefix(prefix+"."+name, "."), s.(map[string]any))
		}
	}
	walk("", root)
}
