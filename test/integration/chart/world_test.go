// SPDX-License-Identifier: Apache-2.0

// Package chart_test installs the Helm chart on a real control plane and looks at what it brought: objects, rights, and a
// manager that has no others. The manager runs as a process beside the cluster, with a token of its ServiceAccount.
package chart_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"kruise.io/kruise/test/chart"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const (
	managerUser = "system:serviceaccount:kruise-system:kruise-manager"
	daemonUser  = "system:serviceaccount:kruise-system:kruise-daemon"
)

var (
	theLab *lab.Lab
	kube   client.WithWatch
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.Background())
	os.Exit(lab.Main(m, lab.Options{Nodes: 3}, func(l *lab.Lab) error {
		theLab = l
		scheme := cluster.Scheme()
		if err := apixv1.AddToScheme(scheme); err != nil {
			return err
		}
		var err error
		kube, err = client.NewWithWatch(l.Config(), client.Options{Scheme: scheme})
		return err
	}))
}

// helm runs helm against the lab.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, _, err := chart.Helm(t.Context(), theLab.Kubeconfig(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// namespace makes one for a test, which goes with it.
func namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	must(t, kube.Create(t.Context(), ns))
	t.Cleanup(func() { _ = kube.Delete(context.Background(), ns) })
	return ns.Name
}

// token returns a token of a ServiceAccount of kruise-system.
func token(t *testing.T, account string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3600))}}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: account}}
	must(t, kube.SubResource("token").Create(t.Context(), sa, request))
	return request.Status.Token
}

// ca writes the apiserver's CA into a file.
func ca(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.crt")
	cfg := theLab.Config()
	must(t, rest.LoadTLSFiles(cfg))
	must(t, os.WriteFile(path, cfg.CAData, 0o600))
	return path
}

// kubeconfigOf writes a kubeconfig with a token of a ServiceAccount.
func kubeconfigOf(t *testing.T, account string) string {
	t.Helper()
	cfg := theLab.Config()
	must(t, rest.LoadTLSFiles(cfg))
	c := clientcmdapi.NewConfig()
	c.Clusters["lab"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	c.AuthInfos[account] = &clientcmdapi.AuthInfo{Token: token(t, account)}
	c.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: account}
	c.CurrentContext = "lab"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(*c, path))
	return path
}

// startManager runs a manager with nothing but the rights of its ServiceAccount until the test ends.
func startManager(t *testing.T, args ...string) *cluster.Manager {
	t.Helper()
	return startAs(t, "kruise-manager", args...)
}

// startAs runs a manager with the rights of any ServiceAccount of kruise-system.
func startAs(t *testing.T, account string, args ...string) *cluster.Manager {
	t.Helper()
	t.Setenv("WEBHOOK_CERT_WRITER", "secret") // beside the cluster, files would be the default
	c := &cluster.Cluster{Lab: theLab, Client: kube}
	m, err := c.StartManager(t.Context(), append([]string{"--kubeconfig=" + kubeconfigOf(t, account), "--nodeimage-creation-delay=0s", "--v=1"}, args...)...)
	must(t, err)
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(m.Log)
			t.Logf("the end of the manager's log:\n%s", lab.Tail(string(log)))
		}
	})
	return m
}

// can asks what `kubectl auth can-i` asks: "list secrets -A", "create pods/exec -n default", "get secrets/x -n y".
func can(t *testing.T, user, question string) bool {
	t.Helper()
	fields := strings.Fields(question)
	a := &authorizationv1.ResourceAttributes{Verb: strings.Trim(fields[0], "'")}
	resource, sub, _ := strings.Cut(strings.Trim(fields[1], "'"), "/")
	a.Resource, a.Subresource = resource, sub
	if r, group, ok := strings.Cut(resource, "."); ok {
		a.Resource, a.Group = r, group
	}
	if a.Resource == "*" {
		a.Group = "*"
	}
	if n := slices.Index(fields, "-n"); n > 0 {
		a.Namespace = fields[n+1]
	}
	if n := slices.Index(fields, "--name"); n > 0 {
		a.Name = fields[n+1]
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kruise-system", "system:authenticated"}, ResourceAttributes: a,
	}}
	must(t, kube.Create(t.Context(), review))
	return review.Status.Allowed
}

func expect(t *testing.T, user string, want bool, questions ...string) {
	t.Helper()
	for _, q := range questions {
		if got := can(t, user, q); got != want {
			t.Errorf("can %s %s: %t, want %t", user, q, got, want)
		}
	}
}

// as is a client of a user with the groups of every authenticated one.
func as(t *testing.T, user string, extra map[string][]string) client.Client {
	t.Helper()
	cfg := theLab.Config()
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}, Extra: extra}
	c, err := client.New(cfg, client.Options{Scheme: kube.Scheme()})
	must(t, err)
	return c
}

func unless(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
