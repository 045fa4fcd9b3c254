// SPDX-License-Identifier: Apache-2.0

// Package admission_test sends CloneSets of both versions to a real apiserver in front of a manager.
package admission_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(cluster.Main(m, lab.Options{Nodes: 1}, func(c *cluster.Cluster) { shared = c }, "--feature-gates=ResourcesDeletionProtection=true"))
}

// warned collects the admission warnings of one client.
type warned struct {
	sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warned) HandleWarningHeader(_ int, _, text string) {
	w.Lock()
	defer w.Unlock()
	w.texts = append(w.texts, text)
}

// namespace returns a client and a namespace of its own.
func namespace(t *testing.T) (client.Client, string, *warned) {
	t.Helper()
	w := &warned{}
	cfg := rest.CopyConfig(shared.Config())
	cfg.WarningHandler = w
	c, err := client.New(cfg, client.Options{Scheme: cluster.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "admission-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.Background(), ns) })
	return c, ns.Name, w
}

// cloneSet returns a minimal CloneSet of a version without pods.
func cloneSet(version, ns, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps.kruise.io/" + version,
		"kind":       "CloneSet",
		"metadata":   map[string]any{"namespace": ns, "name": name},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": name}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "app:v1"}}},
			},
		},
	}}
}

func put(t *testing.T, u *unstructured.Unstructured, value any, fields ...string) {
	t.Helper()
	if err := unstructured.SetNestedField(u.Object, value, fields...); err != nil {
		t.Fatal(err)
	}
}

// expect checks fields, given by their path with dots.
func expect(t *testing.T, u *unstructured.Unstructured, want map[string]any) {
	t.Helper()
	for path, value := range want {
		got, _, err := unstructured.NestedFieldNoCopy(u.Object, strings.Split(path, ".")...)
		if err != nil || got != value {
			t.Errorf("%s: got %v, want %v (%v)", path, got, value, err)
		}
	}
}

func read(t *testing.T, c client.Client, version string, u *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	out := &unstructured.Unstructured{}
	out.SetAPIVersion("apps.kruise.io/" + version)
	out.SetKind("CloneSet")
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(u), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, ns, _ := namespace(t)
	t.Run("S_cloneset_4 v1alpha1", func(t *testing.T) {
		u := cloneSet("v1alpha1", ns, "alpha")
		if err := c.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		expect(t, u, map[string]any{
			"spec.replicas": int64(1), "spec.revisionHistoryLimit": int64(10), "spec.updateStrategy.type": "ReCreate", "spec.updateStrategy.partition": int64(0),
			"spec.updateStrategy.maxUnavailable": "20%", "spec.updateStrategy.maxSurge": int64(0), "spec.template.spec.dnsPolicy": "ClusterFirst",
		})
		expect(t, read(t, c, "v1beta1", u), map[string]any{
			"spec.updateStrategy.type": "RollingUpdate", "spec.updateStrategy.rollingUpdate.podUpdatePolicy": "ReCreate",
			"spec.scaleStrategy.enablePVCReuse": true, "spec.updateStrategy.rollingUpdate.maxUnavailable": "20%",
		})
	})
	t.Run("S_cloneset_4 v1beta1", func(t *testing.T) {
		u := cloneSet("v1beta1", ns, "beta")
		put(t, u, map[string]any{}, "spec", "scaleStrategy")
		if err := c.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		expect(t, u, map[string]any{
			"spec.replicas": int64(1), "spec.updateStrategy.type": "RollingUpdate", "spec.updateStrategy.rollingUpdate.podUpdatePolicy": "ReCreate",
			"spec.updateStrategy.rollingUpdate.partition": int64(0), "spec.updateStrategy.rollingUpdate.maxUnavailable": "20%",
			"spec.updateStrategy.rollingUpdate.maxSurge": int64(0), "spec.scaleStrategy.enablePVCReuse": false,
		})
		expect(t, read(t, c, "v1alpha1", u), map[string]any{"spec.updateStrategy.type": "ReCreate", "spec.scaleStrategy.disablePVCReuse": true})
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c, ns, _ := namespace(t)
	for i, tt := range []struct {
		name, version string
		value         any
		fields        []string
		want          string
	}{
		{"restartPolicy", "v1beta1", "OnFailure", []string{"spec", "template", "spec", "restartPolicy"}, `spec.template.spec.restartPolicy: Unsupported value: "OnFailure"`},
		{"activeDeadlineSeconds", "v1alpha1", int64(5), []string{"spec", "template", "spec", "activeDeadlineSeconds"}, "spec.template.spec.activeDeadlineSeconds: Forbidden"},
		{"partition abc", "v1beta1", "abc", []string{"spec", "updateStrategy", "rollingUpdate", "partition"}, `spec.updateStrategy.rollingUpdate.partition: Invalid value: "abc"`},
		{"partition abc", "v1alpha1", "abc", []string{"spec", "updateStrategy", "partition"}, `spec.updateStrategy.partition: Invalid value: "abc"`},
		{"maxUnavailable 0", "v1alpha1", int64(0), []string{"spec", "updateStrategy", "maxUnavailable"}, "spec.updateStrategy.maxUnavailable: Invalid value: \"0\": may not be 0 when `maxSurge` is 0"},
		{"InPlaceOnly with maxSurge", "v1beta1", map[string]any{"podUpdatePolicy": "InPlaceOnly", "maxSurge": int64(1)}, []string{"spec", "updateStrategy", "rollingUpdate"}, "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value"},
		{"foreign pod", "v1alpha1", []any{"nobody"}, []string{"spec", "scaleStrategy", "podsToDelete"}, `spec.scaleStrategy.podsToDelete[0]: Invalid value: "nobody"`},
		{"progressDeadlineSeconds", "v1beta1", int64(0), []string{"spec", "progressDeadlineSeconds"}, "spec.progressDeadlineSeconds: Invalid value"},
	} {
		t.Run("S_cloneset_7 "+tt.name+"/"+tt.version, func(t *testing.T) {
			u := cloneSet(tt.version, ns, fmt.Sprintf("refused-%d", i))
			put(t, u, tt.value, tt.fields...)
			err := c.Create(t.Context(), u)
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("S_cloneset_7 maxUnavailable 0 with maxSurge 1 is accepted", func(t *testing.T) {
		u := cloneSet("v1beta1", ns, "surge")
		put(t, u, map[string]any{"maxUnavailable": int64(0), "maxSurge": int64(1)}, "spec", "updateStrategy", "rollingUpdate")
		if err := c.Create(t.Context(), u); err != nil {
			t.Error(err)
		}
	})
	t.Run("S_cloneset_7 selector change", func(t *testing.T) {
		u := cloneSet("v1beta1", ns, "selector")
		if err := c.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		put(t, u, "b", "spec", "selector", "matchLabels", "extra")
		put(t, u, "b", "spec", "template", "metadata", "labels", "extra")
		if err := c.Update(t.Context(), u); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "selector") {
			t.Errorf("got %v", err)
		}
	})
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		t.Run("S_cloneset_7 InPlaceOnly, env/"+version, func(t *testing.T) {
			u := cloneSet(version, ns, "in-place-"+version)
			if version == "v1alpha1" {
				put(t, u, "InPlaceOnly", "spec", "updateStrategy", "type")
			} else {
				put(t, u, "InPlaceOnly", "spec", "updateStrategy", "rollingUpdate", "podUpdatePolicy")
			}
			if err := c.Create(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			image := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v2"}]}}}}`))
			if err := c.Patch(t.Context(), u, image); err != nil {
				t.Errorf("image: %v", err)
			}
			env := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v2","env":[{"name":"A","value":"1"}]}]}}}}`))
			if err := c.Patch(t.Context(), u, env); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.template.spec: Forbidden") {
				t.Errorf("env: %v", err)
			}
		})
	}
	t.Run("undecodable", func(t *testing.T) {
		u := cloneSet("v1beta1", ns, "undecodable")
		put(t, u, "many", "spec", "template", "spec", "containers")
		if err := c.Create(t.Context(), u); !apierrors.IsBadRequest(err) && apierrors.ReasonForError(err) != "" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWarnsAboutUnknownFields(t *testing.T) {
	t.Parallel()
	c, ns, w := namespace(t)
	u := cloneSet("v1beta1", ns, "typo")
	put(t, u, "x", "spec", "template", "spec", "dnsPolcy")
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	expect(t, u, map[string]any{"spec.template.spec.dnsPolcy": "x", "spec.template.spec.dnsPolicy": "ClusterFirst"})
	w.Lock()
	defer w.Unlock()
	if !strings.Contains(strings.Join(w.texts, "\n"), `unknown field "spec.template.spec.dnsPolcy"`) {
		t.Errorf("warnings %q", w.texts)
	}
}

func TestDeletionProtection(t *testing.T) {
	t.Parallel()
	c, ns, _ := namespace(t)
	u := cloneSet("v1beta1", ns, "protected")
	u.SetLabels(map[string]string{"policy.kruise.io/delete-protection": "Cascading"})
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	err := c.Delete(t.Context(), u)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `admission webhook "vcloneset.kb.io" denied the request: forbidden by ResourcesProtectionDeletion for policy.kruise.io/delete-protection=Cascading and replicas 1>0`) {
		t.Errorf("S_cloneset_36 got %v", err)
	}
	scale := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`))
	if err := c.Patch(t.Context(), u, scale); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), u); err != nil {
		t.Errorf("S_cloneset_36 %v", err)
	}
}
