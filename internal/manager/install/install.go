// SPDX-License-Identifier: Apache-2.0

// Package install puts what a manager needs into a cluster: CRDs, namespaces and webhook configurations. The demo and
// tests use it; clusters are installed with the chart.
package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/config"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/webhooks"
)

// fieldOwner owns what is applied here.
const fieldOwner = "kruise-install"

// establishTimeout bounds the wait for the apiserver to serve the CRDs.
const establishTimeout = 30 * time.Second

// Options say what to install. Zero values are the defaults of the manifests.
type Options struct {
	// CRDs are names as "clonesets.apps.kruise.io"; nil means all of config/crd/kustomization.yaml.
	CRDs []string
	// WebhookHost and WebhookPort make the apiserver call https://host:port (the manager's WEBHOOK_HOST mode); empty
	// means the Service. A running manager corrects the port.
	WebhookHost string
	WebhookPort int
	// Gates decide which webhooks there are; nil means defaults.
	Gates featuregate.FeatureGate
	// RBAC adds the manager's service account and roles.
	RBAC bool
	// SkipWebhooks leaves the webhook configurations out, and conversion to the apiserver, which only renames versions.
	SkipWebhooks bool
}

// Install applies everything with server-side apply and waits until the apiserver serves the CRDs. It can be repeated:
// what a manager wrote into the objects (CA bundles, addresses) stays.
func Install(ctx context.Context, cfg *rest.Config, o Options) error {
	if o.Gates == nil {
		o.Gates = gates.New()
	}
	if o.WebhookPort == 0 {
		o.WebhookPort = 9876
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), apixv1.AddToScheme(scheme)); err != nil {
		return err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	endpoint := webhooks.Endpoint{
		Host: o.WebhookHost, Port: o.WebhookPort, ServiceNamespace: "kruise-system", ServiceName: "kruise-webhook-service",
	}
	crds, err := CRDs(o.CRDs)
	if err != nil {
		return err
	}
	var objects []any
	for _, crd := range crds {
		if c := crd.Spec.Conversion; c != nil && c.Strategy == apixv1.WebhookConverter {
			crd.Spec.Conversion = endpoint.Conversion(nil)
			if o.SkipWebhooks {
				crd.Spec.Conversion = nil
			}
		}
		objects = append(objects, crd)
	}
	objects = append(objects, namespace("kruise-system"), namespace("kruise-daemon-config"))
	if !o.SkipWebhooks {
		m, v := webhooks.Configurations(endpoint, o.Gates, "kruise-system")
		objects = append(objects, m, v)
	}
	if o.RBAC {
		docs, err := documents("rbac/manager.yaml")
		if err != nil {
			return err
		}
		objects = append(objects, docs...)
	}
	for _, crd := range crds {
		if err := redirect(ctx, c, crd); err != nil {
			return err
		}
	}
	for _, obj := range objects {
		if err := apply(ctx, c, obj); err != nil {
			return err
		}
	}
	return established(ctx, c, crds)
}

// CRDs returns our CRDs of the given names, or those that are installed by default.
func CRDs(names []string) ([]*apixv1.CustomResourceDefinition, error) {
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := read("crd/kustomization.yaml", &kustomization); err != nil {
		return nil, err
	}
	files := kustomization.Resources
	if names != nil {
		entries, err := config.FS.ReadDir("crd/bases")
		if err != nil {
			return nil, err
		}
		files = nil
		for _, e := range entries {
			files = append(files, path.Join("bases", e.Name()))
		}
	}
	var out []*apixv1.CustomResourceDefinition
	for _, f := range files {
		crd := &apixv1.CustomResourceDefinition{}
		if err := read(path.Join("crd", f), crd); err != nil {
			return nil, err
		}
		if names == nil || slices.Contains(names, crd.Name) {
			out = append(out, crd)
		}
	}
	if names != nil && len(out) != len(names) {
		return nil, fmt.Errorf("of the CRDs %v only %d exist", names, len(out))
	}
	return out, nil
}

// documents returns the objects of a manifest.
func documents(file string) ([]any, error) {
	b, err := config.FS.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []any
	for doc := range bytes.SplitSeq(b, []byte("\n---\n")) {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &u.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, u)
	}
	return out, nil
}

func read(file string, into any) error {
	b, err := config.FS.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// namespace carries the label that OpenKruise's own webhooks look at (platform 2.2).
func namespace(name string) *corev1.Namespace {
	ns := &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
	if name == "kruise-system" {
		ns.Labels = map[string]string{"control-plane": "openkruise"}
	}
	return ns
}

func apply(ctx context.Context, c client.Client, obj any) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return err
	}
	delete(content, "status")
	u := &unstructured.Unstructured{Object: content}
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}

// redirect points the conversion of a CRD that is installed already to a URL instead of a Service, or the other way
// round, in one write: server-side apply would leave the old address, which the manager owns, beside the new one.
func redirect(ctx context.Context, c client.Client, crd *apixv1.CustomResourceDefinition) error {
	live := &apixv1.CustomResourceDefinition{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(crd), live); err != nil {
		return client.IgnoreNotFound(err)
	}
	want, have := clientConfig(crd), clientConfig(live)
	if want == nil || have == nil || (want.URL == nil) == (have.URL == nil) {
		return nil
	}
	base := live.DeepCopy()
	have.URL, have.Service = want.URL, want.Service
	if err := c.Patch(ctx, live, client.MergeFrom(base)); err != nil {
		return fmt.Errorf("redirecting the conversion of %s: %w", crd.Name, err)
	}
	return nil
}

// clientConfig is where a CRD's conversion is served; nil if it has none.
func clientConfig(crd *apixv1.CustomResourceDefinition) *apixv1.WebhookClientConfig {
	if crd.Spec.Conversion == nil || crd.Spec.Conversion.Webhook == nil {
		return nil
	}
	return crd.Spec.Conversion.Webhook.ClientConfig
}

func established(ctx context.Context, c client.Client, crds []*apixv1.CustomResourceDefinition) error {
	for _, crd := range crds {
		err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
			var live apixv1.CustomResourceDefinition
			if err := c.Get(ctx, client.ObjectKeyFromObject(crd), &live); err != nil {
				return false, client.IgnoreNotFound(err)
			}
			return slices.ContainsFunc(live.Status.Conditions, func(c apixv1.CustomResourceDefinitionCondition) bool {
				return c.Type == apixv1.Established && c.Status == apixv1.ConditionTrue
			}), nil
		})
		if err != nil {
			return fmt.Errorf("CustomResourceDefinition %s is not established: %w", crd.Name, err)
		}
	}
	return nil
}
