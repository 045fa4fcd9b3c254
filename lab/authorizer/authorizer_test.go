// SPDX-License-Identifier: Apache-2.0

// Package authorizer tests config/authorizer with the apiserver's own library: what the configuration refuses, and that
// an apiserver would take it.
package authorizer

import (
	"os"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/load"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authorization/cel"
)

const (
	configuration = "../../config/authorizer/authorization.yaml"
	daemon        = "system:serviceaccount:kruise-system:kruise-daemon"
)

func TestReads(t *testing.T) {
	data, err := os.ReadFile(configuration)
	if err != nil {
		t.Fatal(err)
	}
	config, err := load.LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("../../config/authorizer/nobody.kubeconfig"); err != nil {
		t.Error(err)
	}
	// Validation looks for the file that the configuration names.
	path := *config.Authorizers[0].Webhook.ConnectionInfo.KubeConfigFile
	here := "../../config/authorizer/nobody.kubeconfig"
	config.Authorizers[0].Webhook.ConnectionInfo.KubeConfigFile = &here
	for _, err := range validation.ValidateAuthorizationConfiguration(cel.NewDefaultCompiler(), nil, config,
		sets.New("Node", "RBAC", "Webhook"), sets.New("Webhook")) {
		if err.Detail != "must be an absolute path" { // ours is relative here only
			t.Error(err)
		}
	}
	if path != "/etc/kubernetes/kruise/nobody.kubeconfig" || config.Authorizers[0].Webhook.FailurePolicy != apiserver.FailurePolicyDeny {
		t.Errorf("webhook %+v", config.Authorizers[0].Webhook)
	}
	matcher, errs := validation.ValidateAndCompileMatchConditions(cel.NewDefaultCompiler(), config.Authorizers[0].Webhook.MatchConditions)
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	own := map[string]authorizationv1.ExtraValue{"authentication.kubernetes.io/node-name": {"n1"}}
	field := func(key, value string) *authorizationv1.FieldSelectorAttributes {
		return &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{{Key: key, Operator: metav1.FieldSelectorOpIn, Values: []string{value}}}}
	}
	label := func(node string) *authorizationv1.LabelSelectorAttributes {
		return &authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
			{Key: "crr.apps.kruise.io/active", Operator: metav1.LabelSelectorOpIn, Values: []string{"true"}},
			{Key: "crr.apps.kruise.io/node-name", Operator: metav1.LabelSelectorOpIn, Values: []string{node}},
		}}
	}
	type attributes = authorizationv1.ResourceAttributes
	for name, tc := range map[string]struct {
		user    string
		extra   map[string]authorizationv1.ExtraValue
		ask     *attributes
		refused bool
	}{
		"own pods":                     {daemon, own, &attributes{Verb: "list", Resource: "pods", FieldSelector: field("spec.nodeName", "n1")}, false},
		"own pods, watch":              {daemon, own, &attributes{Verb: "watch", Resource: "pods", FieldSelector: field("spec.nodeName", "n1")}, false},
		"pods of another node":         {daemon, own, &attributes{Verb: "list", Resource: "pods", FieldSelector: field("spec.nodeName", "n2")}, true},
		"all pods":                     {daemon, own, &attributes{Verb: "list", Resource: "pods"}, true},
		"one pod":                      {daemon, own, &attributes{Verb: "get", Resource: "pods", Name: "p"}, true},
		"pods not of a node":           {daemon, own, &attributes{Verb: "list", Resource: "pods", FieldSelector: &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{{Key: "spec.nodeName", Operator: metav1.FieldSelectorOpNotIn, Values: []string{"n1"}}}}}, true},
		"token without a node":         {daemon, nil, &attributes{Verb: "list", Resource: "pods", FieldSelector: field("spec.nodeName", "n1")}, true},
		"own NodeImage":                {daemon, own, &attributes{Verb: "watch", Group: "apps.kruise.io", Resource: "nodeimages", FieldSelector: field("metadata.name", "n1")}, false},
		"own NodeImage by name":        {daemon, own, &attributes{Verb: "get", Group: "apps.kruise.io", Resource: "nodeimages", Name: "n1"}, false},
		"another NodeImage":            {daemon, own, &attributes{Verb: "get", Group: "apps.kruise.io", Resource: "nodeimages", Name: "n2"}, true},
		"all NodeImages":               {daemon, own, &attributes{Verb: "list", Group: "apps.kruise.io", Resource: "nodeimages"}, true},
		"own requests":                 {daemon, own, &attributes{Verb: "list", Group: "apps.kruise.io", Resource: "containerrecreaterequests", LabelSelector: label("n1")}, false},
		"requests of another node":     {daemon, own, &attributes{Verb: "list", Group: "apps.kruise.io", Resource: "containerrecreaterequests", LabelSelector: label("n2")}, true},
		"all requests":                 {daemon, own, &attributes{Verb: "watch", Group: "apps.kruise.io", Resource: "containerrecreaterequests"}, true},
		"a secret is not for this":     {daemon, own, &attributes{Verb: "get", Resource: "secrets", Namespace: "kruise-daemon-config", Name: "s"}, false},
		"a write is not for this":      {daemon, own, &attributes{Verb: "patch", Resource: "pods", Subresource: "status", Name: "p"}, false},
		"everybody else":               {"alice", nil, &attributes{Verb: "list", Resource: "pods"}, false},
		"paths are not for this":       {daemon, own, nil, false},
		"NodePodProbe of another node": {daemon, own, &attributes{Verb: "list", Group: "apps.kruise.io", Resource: "nodepodprobes", FieldSelector: field("metadata.name", "n2")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: tc.user, Extra: tc.extra, ResourceAttributes: tc.ask}}
			if tc.ask == nil {
				review.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: "/version", Verb: "get"}
			}
			// What matches goes to nobody and is refused; what can't be evaluated is refused, too (failurePolicy).
			refused, err := matcher.Eval(t.Context(), review)
			if err != nil {
				t.Fatal(err)
			}
			if refused != tc.refused {
				t.Errorf("refused: %t, want %t", refused, tc.refused)
			}
		})
	}
}
