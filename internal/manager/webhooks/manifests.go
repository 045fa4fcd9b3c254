// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/podadmission/concern"
)

// Endpoint is where the apiserver finds the webhook server: at Host and Port, or behind a Service if Host is empty.
type Endpoint struct {
	Host string
	Port int

	ServiceNamespace string
	ServiceName      string
}

// URL returns https://Host:Port and the path.
func (e Endpoint) URL(path string) string {
	return "https://" + net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) + path
}

// clientConfig is the admission client configuration for a path.
func (e Endpoint) clientConfig(path string, bundle []byte) admissionv1.WebhookClientConfig {
	c := admissionv1.WebhookClientConfig{CABundle: bundle}
	if e.Host != "" {
		c.URL = new(e.URL(path))
		return c
	}
	c.Service = &admissionv1.ServiceReference{Namespace: e.ServiceNamespace, Name: e.ServiceName, Path: &path}
	return c
}

// Conversion is the conversion stanza of our CRDs.
func (e Endpoint) Conversion(bundle []byte) *apixv1.CustomResourceConversion {
	c := &apixv1.WebhookClientConfig{CABundle: bundle}
	if e.Host != "" {
		c.URL = new(e.URL(ConvertPath))
	} else {
		c.Service = &apixv1.ServiceReference{
			Namespace: e.ServiceNamespace, Name: e.ServiceName, Path: new(ConvertPath), Port: new(int32(443)),
		}
	}
	return &apixv1.CustomResourceConversion{
		Strategy: apixv1.WebhookConverter,
		Webhook:  &apixv1.WebhookConversion{ClientConfig: c, ConversionReviewVersions: []string{"v1", "v1beta1"}},
	}
}

// Configurations returns both configuration objects as this version wants them under the gates. ownNamespace is left
// out by webhooks that must not stop Kruise's own pods, and is that of the node agents.
func Configurations(e Endpoint, g featuregate.FeatureGate, ownNamespace string) (*admissionv1.MutatingWebhookConfiguration, *admissionv1.ValidatingWebhookConfiguration) {
	m := &admissionv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: MutatingConfiguration},
	}
	v := &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: ValidatingConfiguration},
	}
	for _, entry := range Inventory() {
		if !entry.Enabled(g) {
			continue
		}
		w := entry.validating(e, g, ownNamespace, ownNamespace)
		if !entry.Mutating {
			v.Webhooks = append(v.Webhooks, w)
			continue
		}
		m.Webhooks = append(m.Webhooks, admissionv1.MutatingWebhook{
			Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy,
			NamespaceSelector: w.NamespaceSelector, SideEffects: w.SideEffects,
			AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
		})
	}
	return m, v
}

// ofAgents is the match condition for requests of node agents.
func ofAgents(namespace string) []admissionv1.MatchCondition {
	return []admissionv1.MatchCondition{{
		Name: agentsCondition, Expression: fmt.Sprintf("request.userInfo.username == %q", "system:serviceaccount:"+namespace+":kruise-daemon"),
	}}
}

func (e Entry) validating(at Endpoint, g featuregate.FeatureGate, ownNamespace, daemonNamespace string) admissionv1.ValidatingWebhook {
	w := admissionv1.ValidatingWebhook{
		Name:         e.Name,
		ClientConfig: at.clientConfig(e.Path, nil),
		Rules: []admissionv1.RuleWithOperations{{
			Operations: e.Operations,
			Rule:       admissionv1.Rule{APIGroups: e.Groups, APIVersions: e.Versions, Resources: e.Resources},
		}},
		FailurePolicy:           new(admissionv1.Fail),
		SideEffects:             new(e.SideEffects),
		AdmissionReviewVersions: []string{"v1", "v1beta1"},
	}
	if e.SkipSystemNamespaces {
		w.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn,
			Values: outside(ownNamespace),
		}}}
	}
	if len(e.Pods) > 0 {
		c := concern.For(Concerns(g), e.Pods...).Expression(outside(ownNamespace))
		w.MatchConditions = []admissionv1.MatchCondition{{Name: MatchConditionName, Expression: c}}
	}
	if e.OfAgents {
		w.MatchConditions = ofAgents(daemonNamespace)
	}
	return w
}

// AgentsManifest is the webhook for requests of node agents as YAML, for charts: the default installation does not have it.
func AgentsManifest() ([]byte, error) {
	for _, e := range Inventory() {
		if e.OfAgents {
			return yaml.Marshal(e.validating(Endpoint{ServiceNamespace: "kruise-system", ServiceName: "kruise-webhook-service"}, gates.New(), "kruise-system", "kruise-system"))
		}
	}
	return nil, errors.New("there is no webhook for requests of node agents")
}

// Manifests are the configurations of a default installation as YAML, the content of config/webhook.
func Manifests() ([]byte, error) {
	m, v := Configurations(Endpoint{ServiceNamespace: "kruise-system", ServiceName: "kruise-webhook-service"}, gates.New(), "kruise-system")
	var out bytes.Buffer
	out.WriteString("# Generated from internal/manager/webhooks/inventory.go by `make generate`. DO NOT EDIT.\n")
	for _, obj := range []any{m, v} {
		b, err := yaml.Marshal(obj)
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(b)
	}
	return out.Bytes(), nil
}
