// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/lab"
)

// clientPKI makes a CA and a client certificate of it as PEM files in dir.
func clientPKI(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	now := time.Now()
	make1 := func(name string, isCA bool, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
			IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		if parent == nil {
			parent, signer = tmpl, k
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, k.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, k
	}
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, rootKey := make1("apiserver-ca", true, nil, nil)
	leaf, leafKey := make1("apiserver", false, root, rootKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return file("ca.crt", "CERTIFICATE", root.Raw), file("client.crt", "CERTIFICATE", leaf.Raw), file("client.key", "PRIVATE KEY", der)
}

// TestClientCA_S_security_31: an apiserver that has a client certificate for webhooks, and a manager that demands one.
func TestClientCA_S_security_31(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := clientPKI(t, dir)
	kubeconfig, admission := filepath.Join(dir, "webhooks.kubeconfig"), filepath.Join(dir, "admission.yaml")
	plugin := func(name string) string {
		return "- name: " + name + "\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    kind: WebhookAdmissionConfiguration\n    kubeConfigFile: " + kubeconfig + "\n"
	}
	for path, content := range map[string]string{
		kubeconfig: fmt.Sprintf("apiVersion: v1\nkind: Config\nusers:\n- name: '*'\n  user:\n    client-certificate: %s\n    client-key: %s\n", cert, key),
		admission: "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n" +
			plugin("MutatingAdmissionWebhook") + plugin("ValidatingAdmissionWebhook"),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.Start(t.Context(), lab.Options{Nodes: 1, APIServerArgs: []string{"--admission-control-config-file=" + admission}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	oldCfg, oldKube := cfg, kube
	cfg = l.Config()
	t.Cleanup(func() { cfg, kube = oldCfg, oldKube })
	if kube, err = client.New(cfg, client.Options{Scheme: oldKube.Scheme()}); err != nil {
		t.Fatal(err)
	}
	reinstall(t, install.Options{})
	o := options(t)
	o.Webhook.ClientCAFile = ca
	m := run(t, o)

	await.That(t, "the apiserver's request is admitted", func() error { return kube.Create(t.Context(), cloneSetNone("certified")) })
	got := &appsv1beta1.CloneSet{}
	if err := kube.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "certified"}, got); err != nil || got.Spec.RevisionHistoryLimit == nil {
		t.Errorf("it was not defaulted: %v", err)
	}
	// The apiserver has no certificate for conversion, so conversion cannot ask for one.
	old := &appsv1alpha1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "certified"}}
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(old), old); err != nil {
		t.Errorf("conversion: %v", err)
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret(t).Data[certs.CACert])
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}}}
	for _, path := range []string{"/mutate-pod", "/mutate-apps-kruise-io-cloneset", "/validate-apps-kruise-io-cloneset"} {
		resp, err := web.Post("https://"+m.WebhookAddr()+path, "application/json", bytes.NewReader([]byte("{}")))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a certificate: %s", path, resp.Status)
		}
	}
	resp, err := web.Get("https://" + m.WebhookAddr() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s", resp.Status)
	}
}
