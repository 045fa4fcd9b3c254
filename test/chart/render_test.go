// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/config"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
)

func render(t *testing.T, args ...string) Objects {
	t.Helper()
	o, err := Template(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestLint runs Helm's own checks.
func TestLint(t *testing.T) {
	t.Parallel()
	if _, _, err := Helm(t.Context(), "/dev/null", "lint", "--strict", Dir(), CRDs()); err != nil {
		t.Error(err)
	}
}

// TestRefusedValues: what would not work is refused before anything is installed.
func TestRefusedValues(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"bogus=1":                                          "additional properties 'bogus' not allowed",
		"manager.bogus=1":                                  "additional properties 'bogus' not allowed",
		"manager.replicas=two":                             "want integer",
		"securityProfile=lax":                              "value must be one of",
		"featureGates=Bogus=true":                          `unknown gate "Bogus"`,
		"featureGates=PodWebhook":                          "neither PodWebhook=true nor PodWebhook=false",
		"featureGates=PodWebhook=tRUE":                     "neither PodWebhook=true nor PodWebhook=false",
		"manager.flags.feature-gates=PodWebhook=false":     "feature-gates is a value of the chart",
		"installation.createNamespace=false":               "label it and set installation.namespaceLabelAcknowledged=true",
		"installation.namespace=kube-system":               "must not be kube-system",
		"installation.daemonConfigNamespace=kruise-system": "must be a namespace of its own",
		"securityProfile=hardened,networkPolicy.apiServerCIDRs={10.0.0.1/32},networkPolicy.nodeCIDRs={10.1.0.0/16},manager.hostNetwork=true": "contradict each other",
		"securityProfile=hardened,networkPolicy.apiServerCIDRs={10.0.0.1/32}":                                                                "needs networkPolicy.nodeCIDRs",
		"securityProfile=hardened":                                        "needs networkPolicy.apiServerCIDRs",
		"webhookConfiguration.overrides.bogus.x=1":                        `unknown webhook "bogus"`,
		`webhookConfiguration.overrides.mpod\.kb\.io.rules=1`:             "rules of mpod.kb.io cannot be set",
		"certManager.enabled=true,featureGates=EnableExternalCerts=false": "needs the gate EnableExternalCerts",
	} {
		_, err := Template(t.Context(), "--set", set)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v, want %q", set, err, want)
		}
	}
}

// TestNames: the names of installed Objects are contract (platform 2.2).
func TestNames(t *testing.T) {
	t.Parallel()
	o := render(t)
	for _, key := range []string{
		"Namespace/kruise-system", "Namespace/kruise-daemon-config", deployment, daemonSet, "Service/kruise-webhook-service",
		"Secret/kruise-webhook-certs", "ServiceAccount/kruise-manager", "ServiceAccount/kruise-daemon", "ServiceAccount/kruise-helm-hook",
		"ClusterRole/kruise-manager-role", "ClusterRole/kruise-daemon-role", "ClusterRole/kruise-certs-role",
		"ClusterRole/aggregate-kruise-view", "ClusterRole/aggregate-kruise-edit", "ClusterRole/aggregate-kruise-admin",
		"Role/kruise-leader-election-role", "Role/kruise-webhook-role", "Role/kruise-daemon-secret-role", "Role/kruise-daemon-gates-role", mutating, validating, guardJob,
	} {
		if o[key] == nil {
			t.Errorf("%s is not rendered", key)
		}
	}
	for key, want := range map[string]string{
		"Namespace/kruise-system": "control-plane: openkruise", deployment: "control-plane: controller-manager", daemonSet: "control-plane: daemon",
		"Service/kruise-webhook-service": "port: 443",
	} {
		if !strings.Contains(o.Text(key), want) {
			t.Errorf("%s lacks %q", key, want)
		}
	}
	if data, found, _ := unstructured.NestedMap(o["Secret/kruise-webhook-certs"].Object, "data"); found {
		t.Errorf("the Secret of certificates is shipped with %v, which an upgrade would write", data)
	}
}

// TestSameSource: what the chart installs by default is what config/ holds (platform W4).
func TestSameSource(t *testing.T) {
	t.Parallel()
	o := render(t)
	strip := func(u *unstructured.Unstructured) map[string]any {
		u = u.DeepCopy()
		u.SetLabels(nil)
		u.SetAnnotations(nil)
		unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
		unstructured.RemoveNestedField(u.Object, "status")
		webhooks, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
		for _, w := range webhooks {
			delete(w.(map[string]any), "timeoutSeconds")
		}
		if webhooks != nil {
			u.Object["webhooks"] = webhooks
		}
		return u.Object
	}
	crds, err := install.CRDs(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, strip(&unstructured.Unstructured{Object: content}), o["CustomResourceDefinition/"+crd.Name], strip)
	}
	for _, dir := range []string{"rbac", "webhook"} {
		files, err := fs.ReadDir(config.FS, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.Name() == "kustomization.yaml" {
				continue
			}
			text, err := config.FS.ReadFile(path.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			want, err := Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			for key, u := range want {
				byDefault := []string{"", "ImagePullJobGate", "delegatedCapabilityCheck", "rbac.aggregateExecKinds", "secretDelivery.namespace"}
				if when := u.GetAnnotations()["rbac.kruise.io/rendered-when"]; !slices.Contains(byDefault, when) {
					if o[key] != nil {
						t.Errorf("%s is rendered without %s", key, when)
					}
					continue
				}
				if u.GetNamespace() == "kruise-daemon-config" && o[key] != nil && o[key].GetNamespace() != u.GetNamespace() {
					key += "." + u.GetNamespace()
				}
				compare(t, strip(u), o[key], strip)
			}
		}
	}
}

func compare(t *testing.T, want map[string]any, got *unstructured.Unstructured, strip func(*unstructured.Unstructured) map[string]any) {
	t.Helper()
	if got == nil {
		t.Errorf("not rendered: %v", want["metadata"])
		return
	}
	if diff := cmp.Diff(normal(want), normal(strip(got))); diff != "" {
		t.Errorf("%s/%s (-config +chart):\n%s", got.GetKind(), got.GetName(), diff)
	}
}

// normal is a value as JSON has it.
func normal(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		return err
	}
	return out
}

// TestGatesAgree: the chart renders by the same gates as the programs run by, for settings of all sorts.
func TestGatesAgree(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{
		"", "ImagePullJobGate=true", "ImagePullJobGate=false", "KruiseDaemon=false", "KruiseDaemon=false,ImagePullJobGate=true",
		"PodWebhook=false", "AllAlpha=true,EnableExternalCerts=false", "AllAlpha=true", "AllBeta=false", "AllBeta=false,KruiseDaemon=true",
		"AllAlpha=false,ImagePullJobGate=true", "PreDownloadImageForInPlaceUpdate=true", "PreDownloadImageForDaemonSetUpdate=true,ImagePullJobGate=false",
		"PreDownloadImageForInPlaceUpdate=true,KruiseDaemon=false", "DaemonWatchingPod=false", "PodProbeMarkerGate=false",
		"EnableExternalCerts=true", "ResourceDistributionGate=true", "ImagePullJobGate=1", "ImagePullJobGate=t, KruiseDaemon=F", "PodWebhook = 0,",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			g := gates.New()
			set := map[string]bool{}
			if err := cliflag.NewMapStringBool(&set).Set(setting); err != nil { // as the flag is read
				t.Fatal(err)
			}
			if err := g.SetFromMap(set); err != nil {
				t.Fatal(err)
			}
			if err := gates.ApplyDependencies(g); err != nil {
				t.Fatal(err)
			}
			o := render(t, "--set", "crds.managed=false", "--set", "featureGates="+strings.ReplaceAll(setting, ",", `\,`))
			role := &rbacv1.ClusterRole{}
			if u := o["ClusterRole/kruise-daemon-role"]; u != nil {
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, role); err != nil {
					t.Fatal(err)
				}
			}
			may := func(resource string) bool {
				return slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, resource) })
			}
			on := func(f featuregate.Feature) bool { return g.Enabled(f) }
			for what, is := range map[string][2]bool{
				"the agent":              {on(gates.KruiseDaemon), o[daemonSet] != nil},
				"webhooks of pods":       {on(gates.PodWebhook), strings.Contains(o.Text(mutating), "/mutate-pod")},
				"secrets":                {on(gates.ImagePullJob), o["ClusterRole/kruise-manager-pullsecret-role"] != nil},
				"the certificate":        {!on(gates.EnableExternalCerts), o["Secret/kruise-webhook-certs"] != nil},
				"writing CRDs":           {!on(gates.EnableExternalCerts), strings.Contains(o.Text("ClusterRole/kruise-certs-role"), "patch")},
				"writing the secret":     {!on(gates.EnableExternalCerts), strings.Contains(o.Text("Role/kruise-webhook-role"), "update")},
				"pods for the agent":     {on(gates.KruiseDaemon) && on(gates.DaemonWatchingPod), may("pods")},
				"probes for the agent":   {on(gates.KruiseDaemon) && on(gates.PodProbeMarker), may("nodepodprobes")},
				"the agent's NodeImages": {on(gates.KruiseDaemon), may("nodeimages")},
			} {
				if is[0] != is[1] {
					t.Errorf("%s: %t by the programs, %t by the chart", what, is[0], is[1])
				}
			}
		})
	}
}

// TestBroker: with a broker agents have no right to Secrets, and reach the manager (security 5.3.2).
func TestBroker(t *testing.T) {
	t.Parallel()
	o := render(t, "--set", "secretDelivery=broker,daemon.namespace=agents", "--set-json", `networkPolicy={"apiServerCIDRs":["10.0.0.1/32"],"nodeCIDRs":["10.1.0.0/16"]}`)
	for key, want := range map[string]string{
		deployment: "--daemon-namespace=agents", daemonSet: "--broker-url=https://kruise-webhook-service.kruise-system.svc/node-credentials",
		"ClusterRole/kruise-manager-broker-role": "tokenreviews", "ClusterRole/kruise-manager-pullsecret-role": "secrets",
		"NetworkPolicy/kruise-controller-manager": "cidr: 10.1.0.0/16",
		"Role/kruise-manager-broker-role":         "namespace: agents",
	} {
		if !strings.Contains(o.Text(key), want) {
			t.Errorf("%s lacks %q", key, want)
		}
	}
	for _, key := range []string{"Role/kruise-daemon-secret-role", "RoleBinding/kruise-daemon-secret-rolebinding"} {
		if o[key] != nil {
			t.Errorf("%s is rendered", key)
		}
	}
	separate := render(t, "--set", "secretDelivery=broker,manager.separateControllers.enabled=true")
	for _, key := range []string{"ClusterRoleBinding/kruise-manager-broker-rolebinding", "ClusterRoleBinding/kruise-manager-pullsecret-rolebinding"} {
		if !strings.Contains(separate.Text(key), "name: kruise-webhook\n") {
			t.Errorf("the process that answers agents lacks its rights:\n%s", separate.Text(key))
		}
	}
	policy := o.Text("NetworkPolicy/kruise-controller-manager")
	open := render(t, "--set", "secretDelivery=broker", "--set-json", `networkPolicy.apiServerCIDRs=["10.0.0.1/32"]`).Text("NetworkPolicy/kruise-controller-manager")
	if strings.Count(policy, "cidr: 10.0.0.1/32") != 2 || strings.Count(open, "cidr: 10.0.0.1/32") != 1 {
		t.Errorf("who may ask at the webhooks' port:\n%s\nwithout nodeCIDRs:\n%s", policy, open)
	}
}

// TestSeparateControllers: the Service goes on selecting the pods that serve webhooks, and each of both processes has an
// identity of its own with the rights of its own.
func TestSeparateControllers(t *testing.T) {
	t.Parallel()
	o := render(t, "--set", "crds.managed=false,manager.separateControllers.enabled=true,manager.hostNetwork=true,manager.webhook.clientCASecret=callers")
	const controllers = "Deployment/kruise-controllers"
	for key, want := range map[string][]string{
		deployment:                       {"serviceAccountName: kruise-webhook\n", "--enable-controllers=false", "containerPort: 9876", "hostNetwork: true", "client-ca"},
		controllers:                      {"serviceAccountName: kruise-manager\n", "--enable-webhooks=false", "!containerPort: 9876", "hostNetwork: false", "!client-ca"},
		"Service/kruise-webhook-service": {"control-plane: controller-manager"},
	} {
		for _, text := range want {
			text, not := strings.CutPrefix(text, "!")
			if strings.Contains(o.Text(key), text) == not {
				t.Errorf("%s: %q is there: %t", key, text, not)
			}
		}
	}
	broker := render(t, "--set", "crds.managed=false,manager.separateControllers.enabled=true,secretDelivery=broker")
	for key, want := range map[string]string{
		"ClusterRole/kruise-manager-broker-role": "imagepulljobs", "ClusterRoleBinding/kruise-manager-broker-rolebinding": "kruise-webhook",
		"ClusterRoleBinding/kruise-manager-pullsecret-rolebinding": "kruise-webhook",
	} {
		if !strings.Contains(broker.Text(key), want) {
			t.Errorf("with the broker, %s lacks %s", key, want)
		}
	}
	accounts := map[string]string{
		"ClusterRoleBinding/kruise-certs-rolebinding": "kruise-webhook", "RoleBinding/kruise-webhook-rolebinding": "kruise-webhook",
		"ClusterRoleBinding/kruise-manager-auth-rolebinding": "kruise-webhook", "RoleBinding/kruise-webhook-leader-election-rolebinding": "kruise-webhook",
		"ClusterRoleBinding/kruise-manager-rolebinding": "kruise-manager", "RoleBinding/kruise-leader-election-rolebinding": "kruise-manager",
		"ClusterRoleBinding/kruise-manager-pullsecret-rolebinding": "kruise-manager", "ClusterRoleBinding/kruise-manager-discovery-rolebinding": "kruise-manager",
	}
	for key, want := range accounts {
		var b rbacv1.ClusterRoleBinding
		if err := yaml.Unmarshal([]byte(o.Text(key)), &b); err != nil || len(b.Subjects) != 1 || b.Subjects[0].Name != want {
			t.Errorf("%s is for %v, want %s (%v)", key, b.Subjects, want, err)
		}
	}
}

// TestCRDsAreKept: uninstalling does not delete everybody's Objects (openkruise/charts#20).
func TestCRDsAreKept(t *testing.T) {
	t.Parallel()
	for key, u := range render(t) {
		if kept := u.GetAnnotations()["helm.sh/resource-policy"] == "keep"; kept != strings.HasPrefix(key, "CustomResourceDefinition/") {
			t.Errorf("%s: kept %t", key, kept)
		}
	}
}

// TestGuardRights: if the CRDs go, too, the guard may look for every kind that users make.
func TestGuardRights(t *testing.T) {
	t.Parallel()
	role := &rbacv1.ClusterRole{}
	u := render(t, "--set", "crds.keep=false")["ClusterRole/kruise-helm-hook-role"]
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, role); err != nil {
		t.Fatal(err)
	}
	crds, err := install.CRDs(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds {
		may := slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
			return r.APIGroups[0] == crd.Spec.Group && slices.Contains(r.Resources, crd.Spec.Names.Plural) && slices.Equal(r.Verbs, []string{"list"})
		})
		if ofNodes := strings.HasPrefix(crd.Spec.Names.Kind, "Node"); may == ofNodes {
			t.Errorf("%s: %t", crd.Name, may)
		}
	}
}

// TestRollingUpdate: there is always a replica, and room for the next one.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"manager.hostNetwork=false": "rollingUpdate:\n      maxSurge: 100%\n      maxUnavailable: 0",
		"manager.hostNetwork=true":  "rollingUpdate:\n      maxSurge: 100%\n      maxUnavailable: 1",
	} {
		if o := render(t, "--set", "crds.managed=false", "--set", set); !strings.Contains(o.Text(deployment), want) {
			t.Errorf("%s:\n%s", set, o.Text(deployment))
		}
	}
	o := render(t, "--set", "crds.managed=false,daemon.metricsBind=$(HOST_IP)")
	if strings.Contains(o.Text(daemonSet), "host: $(HOST_IP)") {
		t.Error("the kubelet does not expand variables in probes")
	}
}

// TestHardened renders the strictest profile, with what it wants.
func TestHardened(t *testing.T) {
	t.Parallel()
	o := render(t, "--set", "crds.managed=false,securityProfile=hardened,daemon.namespace=kruise-agents,manager.webhook.clientCASecret=callers",
		"--set", "monitoring.podMonitor.enabled=true,monitoring.serviceMonitor.enabled=true", "--set-json", `networkPolicy={"apiServerCIDRs":["10.0.0.1/32"],"nodeCIDRs":["10.1.0.0/16"]}`)
	for key, want := range map[string]string{
		"Namespace/kruise-system": "pod-security.kubernetes.io/enforce: restricted", "Namespace/kruise-agents": "pod-security.kubernetes.io/enforce: privileged",
		deployment: "--enable-pprof=false", daemonSet: "--enable-pprof=false", managers: "cidr: 10.0.0.1/32",
		"PodMonitor/kruise-daemon": "portNumber: 10223", "ServiceMonitor/kruise-manager": "scheme: https",
		"ClusterRole/kruise-manager-metrics-auth-role":             "tokenreviews",
		"ValidatingAdmissionPolicy/kruise-daemon-node-restriction": "system:serviceaccount:kruise-agents:kruise-daemon",
		"ClusterRoleBinding/kruise-daemon-rolebinding":             "namespace: kruise-agents",
		"RoleBinding/kruise-daemon-gates-rolebinding":              "namespace: kruise-agents",
	} {
		if !strings.Contains(o.Text(key), want) {
			t.Errorf("%s lacks %q:\n%s", key, want, o.Text(key))
		}
	}
	if o["ClusterRole/aggregate-kruise-edit-exec"] != nil {
		t.Error("edit may write kinds that run commands")
	}
	for _, key := range []string{deployment, daemonSet} {
		if !strings.Contains(o.Text(key), "- --metrics-secure\n") {
			t.Errorf("%s tells everybody its metrics", key)
		}
	}
	if strings.Contains(o.Text("PodMonitor/kruise-daemon"), "bearerTokenFile") {
		t.Error("a PodMonitor knows no token file: the apiserver would refuse it")
	}
}

// TestCRDChart: the chart of CRDs has the same ones as the other chart, and they always survive it (platform W19).
func TestCRDChart(t *testing.T) {
	t.Parallel()
	values := []string{"--set", `installation.namespace=mine,externalCerts.annotations.injector=ours,certManager.enabled=true`}
	text, _, err := Helm(t.Context(), "/dev/null", append([]string{"template", Release, CRDs()}, values...)...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := render(t, values...)
	for key, u := range want {
		if u.GetKind() != "CustomResourceDefinition" {
			delete(want, key)
			continue
		}
		labels := u.GetLabels()
		labels["helm.sh/chart"] = strings.Replace(labels["helm.sh/chart"], "kruise-", "kruise-crds-", 1)
		u.SetLabels(labels)
	}
	if diff := cmp.Diff(want.All(), got.All()); diff != "" || len(got) < 18 {
		t.Errorf("%d CRDs (- chart kruise, + chart kruise-crds):\n%s", len(got), diff)
	}
	for key, u := range got {
		if u.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s goes with its release", key)
		}
	}
}

// TestWatchPullSecrets: the right to watch all secrets comes with the value or the profile that wants it, never without
// copies (security 5.1).
func TestWatchPullSecrets(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]bool{
		"": false, "securityProfile=compat": true, "securityProfile=compat,manager.watchPullSecrets=false": false,
		"manager.watchPullSecrets=true": true, "manager.watchPullSecrets=true,featureGates=": false, "manager.watchPullSecrets=true,secretDelivery=broker": false,
	} {
		o := render(t, "--set", "crds.managed=false", "--set", set)
		role, binding := o["ClusterRole/kruise-manager-pullsecret-watch-role"], o["ClusterRoleBinding/kruise-manager-pullsecret-watch-rolebinding"]
		if flag := strings.Contains(o.Text(deployment), "--watch-pull-secrets"); flag != want || (role != nil) != want || (binding != nil) != want {
			t.Errorf("%q: flag %t, role %t, binding %t", set, flag, role != nil, binding != nil)
		}
	}
}

// TestNodeRestriction: agents are kept to their own nodes by a policy where the apiserver has them, else by a webhook that
// is asked about agents only (security 5.2).
func TestNodeRestriction(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"new":                {[]string{"--kube-version=1.30.0"}, "policy"},
		"a vendor's 1.30":    {[]string{"--kube-version=v1.30.1-eks-1"}, "policy"},
		"1.29":               {[]string{"--kube-version=v1.29.9-gke.7"}, "webhook"},
		"1.28, by policy":    {[]string{"--kube-version=1.28.0", "--set", "daemon.nodeRestriction=policy"}, "policy"},
		"new, by webhook":    {[]string{"--set", "daemon.nodeRestriction=webhook"}, "webhook"},
		"off":                {[]string{"--kube-version=1.29.0", "--set", "daemon.nodeRestriction=off"}, ""},
		"1.29 without agent": {[]string{"--kube-version=1.29.0", "--set", "featureGates=KruiseDaemon=false"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := render(t, append(tc.args, "--set", "crds.managed=false,daemon.namespace=agents")...)
			got := ""
			if o["ValidatingAdmissionPolicy/kruise-daemon-node-restriction"] != nil && o["ValidatingAdmissionPolicyBinding/kruise-daemon-node-restriction"] != nil {
				got = "policy"
			}
			if strings.Contains(o.Text(validating), `request.userInfo.username == "system:serviceaccount:agents:kruise-daemon"`) {
				got += "webhook"
			}
			gate := strings.Contains(o.Text(deployment), "DaemonRestrictionWebhook=true") && !strings.Contains(name, "without agent")
			if got != tc.want || gate != (tc.want == "webhook") || !strings.Contains(o.Text(deployment), "--daemon-namespace=agents") {
				t.Errorf("%q, gate %t", got, gate)
			}
		})
	}
	if _, _, err := Helm(t.Context(), "/dev/null", "template", Release, Dir(), "--kube-version=1.27.9"); err == nil {
		t.Error("the chart takes apiservers that would ask about every pod")
	}
}
