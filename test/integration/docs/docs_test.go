// SPDX-License-Identifier: Apache-2.0

// Package docs_test sends every manifest of the documentation to a real apiserver with our CRDs and a manager.
package docs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/docs"
	"kruise.io/kruise/test/lab"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(cluster.Main(m, lab.Options{Nodes: 1}, func(c *cluster.Cluster) { shared = c }, "--feature-gates=ImagePullJobGate=true,ResourcesDeletionProtection=true"))
}

// warned collects what the apiserver warns of.
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

// take returns the warnings since the last call.
func (w *warned) take() []string {
	w.Lock()
	defer w.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}

// Every manifest of the documentation works as pasted: the apiserver and our webhooks accept it, without a warning and
// without an unknown field. It is a dry run, since some are for all nodes and others want gigabytes.
func TestManifests(t *testing.T) {
	makeWhatPagesName(t)
	blocks, err := docs.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	warnings := &warned{}
	cfg := rest.CopyConfig(shared.Config())
	cfg.WarningHandler = warnings
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, b := range blocks {
		if b.Fragment {
			continue
		}
		objects, err := b.Objects()
		if err != nil {
			t.Error(err)
			continue
		}
		for _, o := range objects {
			u := &unstructured.Unstructured{Object: o}
			if err := dryRun(t.Context(), c, u); err != nil {
				t.Errorf("%s: %v", b, err)
			}
			if texts := warnings.take(); len(texts) > 0 {
				t.Errorf("%s: warnings %q", b, texts)
			}
			// Pasting one after the other must not change what the same page has made before.
			name := b.Page + " " + u.GetKind() + " " + u.GetName()
			if other, ok := names[name]; ok {
				t.Errorf("%s: %s is also the name of what %s makes", b, name, other)
			}
			names[name] = b.String()
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d manifests found", len(names))
	}
}

// dryRun applies an object on the server without storing it.
func dryRun(ctx context.Context, c dynamic.Interface, u *unstructured.Unstructured) error {
	mapping, err := shared.Client.RESTMapper().RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	resources := resourcesOf(c, mapping.Resource, mapping.Scope.Name() == "namespace")
	data, err := json.Marshal(u.Object)
	if err != nil {
		return err
	}
	force := true
	_, err = resources.Patch(ctx, u.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: "docs", FieldValidation: metav1.FieldValidationStrict, Force: &force,
	})
	return err
}

func resourcesOf(c dynamic.Interface, r schema.GroupVersionResource, namespaced bool) dynamic.ResourceInterface {
	if namespaced {
		return c.Resource(r).Namespace(metav1.NamespaceDefault)
	}
	return c.Resource(r)
}

// makeWhatPagesName makes the running pod that requests of the documentation are about.
func makeWhatPagesName(t *testing.T) {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "web-abc12"}}
	for _, name := range []string{"app", "proxy"} {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "registry.example/" + name + ":v1"})
	}
	await.That(t, "the pod is created", func() error { // its service account comes in its own time
		return client.IgnoreAlreadyExists(shared.Client.Create(t.Context(), p.DeepCopy()))
	})
	await.That(t, "the pod runs", func() error {
		if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if len(p.Status.ContainerStatuses) < 2 || slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.ContainerID == "" }) {
			return fmt.Errorf("status %+v", p.Status)
		}
		return nil
	})
}
