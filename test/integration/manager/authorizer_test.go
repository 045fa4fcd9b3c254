// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/lab"
)

// TestAuthorizer tries the example of config/authorizer: with it, the agent's identity lists what its node concerns and
// nothing else (security 5.2).
func TestAuthorizer(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"authorization.yaml", "nobody.kubeconfig"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "config", "authorizer", name)) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "/etc/kubernetes/kruise", dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.Start(t.Context(), lab.Options{Nodes: 1, APIServerArgs: []string{"--authorization-config=" + filepath.Join(dir, "authorization.yaml")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := install.Install(context.Background(), l.Config(), install.Options{
		WebhookHost: "127.0.0.1", CRDs: []string{"nodeimages.apps.kruise.io", "containerrecreaterequests.apps.kruise.io"},
	}); err != nil {
		t.Fatal(err)
	}
	admin, err := client.New(l.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Name: "kruise-daemon-reads"}
	for _, obj := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"apps.kruise.io"}, Resources: []string{"nodeimages", "containerrecreaterequests"}, Verbs: []string{"get", "list", "watch"}},
		}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kruise-system", Name: "kruise-daemon"}}},
	} {
		if err := admin.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
	agent := rest.CopyConfig(l.Config())
	agent.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:kruise-system:kruise-daemon",
		Extra:    map[string][]string{"authentication.kubernetes.io/node-name": {"node-1"}},
	}
	c, err := client.New(agent, client.Options{Scheme: kube.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	byNode := client.MatchingLabels{"crr.apps.kruise.io/node-name": "node-1"}
	for _, tc := range []struct {
		name    string
		list    client.ObjectList
		opts    []client.ListOption
		allowed bool
	}{
		{"own pods", &corev1.PodList{}, []client.ListOption{client.MatchingFields{"spec.nodeName": "node-1"}}, true},
		{"all pods", &corev1.PodList{}, nil, false},
		{"pods of another node", &corev1.PodList{}, []client.ListOption{client.MatchingFields{"spec.nodeName": "node-2"}}, false},
		{"pods by another field", &corev1.PodList{}, []client.ListOption{client.MatchingFields{"status.phase": "Running"}}, false},
		{"own NodeImage", &appsv1beta1.NodeImageList{}, []client.ListOption{client.MatchingFields{"metadata.name": "node-1"}}, true},
		{"all NodeImages", &appsv1beta1.NodeImageList{}, nil, false},
		{"own requests", &appsv1beta1.ContainerRecreateRequestList{}, []client.ListOption{byNode, client.HasLabels{"crr.apps.kruise.io/active"}}, true},
		{"all requests", &appsv1beta1.ContainerRecreateRequestList{}, nil, false},
	} {
		err := c.List(t.Context(), tc.list, tc.opts...)
		if tc.allowed != (err == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	other := &appsv1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(other), other); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("another NodeImage: %v", err)
	}
	other.Name = "node-1"
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(other), other); !apierrors.IsNotFound(err) {
		t.Errorf("the own NodeImage: %v", err)
	}
	agent.Impersonate.Extra = nil
	if c, err = client.New(agent, client.Options{Scheme: kube.Scheme()}); err != nil {
		t.Fatal(err)
	}
	if err := c.List(t.Context(), &corev1.PodList{}, client.MatchingFields{"spec.nodeName": "node-1"}); err == nil {
		t.Errorf("without a node: %v", err)
	}
}
