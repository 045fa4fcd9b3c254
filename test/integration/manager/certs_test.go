// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
)

// replicas runs n managers behind a balancer, as the Deployment and the Service would.
func replicas(t *testing.T, n int) (*cluster.Balancer, []*running) {
	t.Helper()
	b := newBalancer(t)
	backends := make([]string, n)
	for i := range backends {
		backends[i] = freeAddr(t)
	}
	b.Set(backends...)
	managers := make([]*running, n)
	var wg sync.WaitGroup
	for i := range managers {
		o := options(t)
		o.Webhook.Port, o.Webhook.ListenAddr = b.Port(), backends[i]
		m, ended := launch(t, o)
		managers[i] = m
		wg.Go(func() {
			for m.Ready(context.Background()) != nil {
				select {
				case err := <-ended:
					t.Errorf("a replica ended: %v", err)
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
	return b, managers
}

// TestUpgradeFromOpenKruise: entries of webhooks that we don't serve and the cached template leave the configuration,
// what somebody else added stays, and two replicas agree on the result.
func TestUpgradeFromOpenKruise(t *testing.T) {
	installed(t, install.Options{})
	m := mutating(t)
	m.Annotations = map[string]string{"template": "[]", "mine": "yes"}
	add := func(name, path string) {
		w := m.Webhooks[0].DeepCopy()
		w.Name, w.ClientConfig.URL = name, new("https://127.0.0.1:9876"+path)
		w.FailurePolicy, w.MatchConditions = new(admissionv1.Ignore), nil
		m.Webhooks = append(m.Webhooks, *w)
	}
	add("mbroadcastjob.kb.io", "/mutate-apps-kruise-io-broadcastjob")
	add("mine.example.com", "/mine")
	m.Webhooks[0].MatchConditions = nil
	m.Webhooks[0].TimeoutSeconds = new(int32(7))
	if err := kube.Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	replicas(t, 2)
	await.That(t, "the configuration is ours", func() error {
		m := mutating(t)
		names := map[string]bool{}
		for _, w := range m.Webhooks {
			names[w.Name] = true
		}
		_, cached := m.Annotations["template"]
		if cached || m.Annotations["mine"] != "yes" || names["mbroadcastjob.kb.io"] || !names["mine.example.com"] || !names["mcloneset.kb.io"] ||
			len(m.Webhooks[0].MatchConditions) != 1 || *m.Webhooks[0].TimeoutSeconds != 7 {
			return fmt.Errorf("annotations %v, webhooks %v, conditions %v", m.Annotations, names, m.Webhooks[0].MatchConditions)
		}
		return nil
	})
	before := mutating(t).ResourceVersion
	time.Sleep(3 * time.Second) // nothing to wait for: nothing may happen
	if after := mutating(t).ResourceVersion; after != before {
		t.Errorf("two replicas go on changing the configuration: %s, %s", before, after)
	}
}

// TestSecretDeleted_S_platform_3 deletes the Secret while CloneSets are created once a second.
func TestSecretDeleted_S_platform_3(t *testing.T) {
	installed(t, install.Options{})
	replicas(t, 2)
	before := secret(t)

	ctx, stop := context.WithCancel(t.Context())
	var created, failed int
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := 0; ; i++ {
			cs := cloneSet(fmt.Sprintf("rotation-%d", i))
			cs.Spec.Replicas = new(int32(0))
			if err := kube.Create(context.WithoutCancel(ctx), cs); err != nil {
				failed++
				t.Errorf("creating a CloneSet: %v", err)
			} else {
				created++
				_ = kube.Delete(context.WithoutCancel(ctx), cs)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	if err := kube.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the Secret is there again", func() error {
		var s corev1.Secret
		return kube.Get(t.Context(), client.ObjectKeyFromObject(before), &s)
	})
	await.That(t, "configurations carry the new CA", func() error {
		data := secret(t).Data
		if bytes.Equal(data[certs.CACert], before.Data[certs.CACert]) {
			return errors.New("the CA is the old one")
		}
		return injected(t, data[certs.CACert])
	})
	await.That(t, "the old CA and the old certificate are gone", func() error {
		data := secret(t).Data
		if n := bytes.Count(data[certs.CACert], []byte("BEGIN CERTIFICATE")); n != 1 {
			return fmt.Errorf("%d CAs", n)
		}
		if bytes.Equal(data[certs.ServerCert], before.Data[certs.ServerCert]) {
			return errors.New("the certificate is the old one")
		}
		return injected(t, data[certs.CACert])
	})
	stop()
	<-done
	if created < 5 || failed > 0 {
		t.Errorf("%d created, %d failed", created, failed)
	}
}

// TestLongLivedCertificate_S_platform_4 puts a certificate of ten years into the Secret of a manager that runs, 100 days
// before its end.
func TestLongLivedCertificate_S_platform_4(t *testing.T) {
	installed(t, install.Options{})
	old := longLived(t)
	put := func() {
		t.Helper()
		s := secret(t)
		s.Data = old
		if err := kube.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	o := options(t)
	o.Webhook.RenewBefore = 30 * 24 * time.Hour
	m := run(t, o)
	put()
	await.That(t, "with CERTS_RENEW_BEFORE=30d it is served", func() error { return serves(m, old[certs.ServerCert]) })
	await.That(t, "its CA alone is trusted", func() error { return injected(t, secret(t).Data[certs.CACert]) })
	if !bytes.Equal(secret(t).Data[certs.ServerCert], old[certs.ServerCert]) {
		t.Error("it is not kept")
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	m = run(t, options(t))
	put()
	await.That(t, "the certificate is replaced", func() error {
		data := secret(t).Data
		if bytes.Equal(data[certs.ServerCert], old[certs.ServerCert]) {
			return errors.New("it is not")
		}
		block, _ := pem.Decode(data[certs.ServerCert])
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err == nil && leaf.NotAfter.Sub(leaf.NotBefore) > 90*24*time.Hour {
			err = fmt.Errorf("it lives for %s", leaf.NotAfter.Sub(leaf.NotBefore))
		}
		if err == nil {
			err = serves(m, data[certs.ServerCert])
		}
		return err
	})
}

// serves tells whether a manager shows a certificate to those who call its webhooks.
func serves(m *running, certificate []byte) error {
	block, _ := pem.Decode(certificate)
	conn, err := tls.Dial("tcp", m.WebhookAddr(), &tls.Config{InsecureSkipVerify: true}) // compared below
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if !bytes.Equal(conn.ConnectionState().PeerCertificates[0].Raw, block.Bytes) {
		return errors.New("it serves another certificate")
	}
	return nil
}

// longLived are six keys made 3550 days ago for ten years.
func longLived(t *testing.T) map[string][]byte {
	t.Helper()
	const day = 24 * time.Hour
	dir := t.TempDir()
	k := &certs.Keeper{
		Store: certs.Files{Dir: dir}, Publisher: nowhere{}, Now: func() time.Time { return time.Now().Add(-3550 * day) },
		Policy: certs.Policy{Names: []string{"127.0.0.1", "localhost"}, CALife: 3650 * day, LeafLife: 3650 * day, RenewBefore: 180 * day},
	}
	if _, err := k.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, _, err := certs.Files{Dir: dir}.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type nowhere struct{}

func (nowhere) Publish(context.Context, []byte) (bool, error) { return true, nil }

func TestConfigurationsRepaired_S_platform_6(t *testing.T) {
	installed(t, install.Options{})
	run(t, options(t))
	bundle := secret(t).Data[certs.CACert]

	v := validating(t)
	v.Webhooks[0].ClientConfig.CABundle = nil
	v.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mine": "yes"}}
	if err := kube.Update(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the CA is back", func() error { return injected(t, bundle) })
	if got := validating(t).Webhooks[0].NamespaceSelector; got == nil || got.MatchLabels["mine"] != "yes" {
		t.Errorf("the selector was not preserved: %v", got)
	}
	// Nothing is written once all is in order (W3: no hot loop).
	before := validating(t).ResourceVersion
	time.Sleep(3 * time.Second)
	if after := validating(t).ResourceVersion; after != before {
		t.Errorf("the configuration went on changing: %s, %s", before, after)
	}
}

func TestConfigurationDeleted_S_platform_7(t *testing.T) {
	installed(t, install.Options{})
	m := run(t, options(t))
	if err := kube.Delete(t.Context(), validating(t)); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the manager tells", func() error {
		if err := m.SyncError(); err == nil || !strings.Contains(err.Error(), "kruise-validating-webhook-configuration") {
			return fmt.Errorf("it says: %w", err)
		}
		return nil
	})
	if err := m.Ready(t.Context()); err != nil {
		t.Errorf("the manager is not ready any more: %v", err)
	}
	reinstall(t, install.Options{})
	await.That(t, "the CA is injected", func() error { return injected(t, secret(t).Data[certs.CACert]) })
}

func TestHostMode_S_platform_8(t *testing.T) {
	installed(t, install.Options{})
	o := options(t)
	o.Webhook.Host, o.Webhook.Port, o.Webhook.ListenAddr = "10.0.0.5", 9443, "127.0.0.1:0"
	run(t, o)
	for name, c := range clientConfigs(t) {
		if c.URL == nil || !strings.HasPrefix(*c.URL, "https://10.0.0.5:9443/") || c.Service != nil {
			t.Errorf("webhook %s: %v %v", name, c.URL, c.Service)
		}
	}
	for name, c := range conversions(t) {
		if c.URL == nil || *c.URL != "https://10.0.0.5:9443/convert" || c.Service != nil {
			t.Errorf("CRD %s: %v %v", name, c.URL, c.Service)
		}
	}
	block, _ := pem.Decode(secret(t).Data[certs.ServerCert])
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(leaf.IPAddresses) != 1 || leaf.IPAddresses[0].String() != "10.0.0.5" {
		t.Errorf("IP SANs %v, %v", leaf.IPAddresses, err)
	}
}

// TestExternalCertificates_S_platform_9: the manager only looks; somebody else writes certificates and injects the CA.
func TestExternalCertificates_S_platform_9(t *testing.T) {
	installed(t, install.Options{})
	material := longLived(t)
	ext := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-webhook-certs"},
		Data:       map[string][]byte{"ca.crt": material[certs.CACert], "tls.crt": material[certs.ServerCert], "tls.key": material[certs.ServerKey]},
	}
	if err := kube.Create(t.Context(), ext); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	g, err := gates.FromMap(map[string]bool{"EnableExternalCerts": true})
	if err != nil {
		t.Fatal(err)
	}
	o.Gates, o.WebhookInitializeTimeout = g, 2*time.Second
	m, ended := launch(t, o)
	await.That(t, "it is not ready and says why", func() error {
		err := m.Ready(t.Context())
		if err == nil || !strings.Contains(err.Error(), "kruise-mutating-webhook-configuration") {
			return fmt.Errorf("it says: %w", err)
		}
		return nil
	})
	await.That(t, "an event at the Secret says so, too", func() error {
		var list corev1.EventList
		if err := kube.List(t.Context(), &list, client.InNamespace("kruise-system")); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "WebhooksNotInOrder" && e.InvolvedObject.UID == ext.UID && strings.Contains(e.Message, "kruise-mutating-webhook-configuration") {
				return nil
			}
		}
		return fmt.Errorf("none of %d events", len(list.Items))
	})
	mwc, vwc := mutating(t), validating(t)
	for i := range mwc.Webhooks {
		mwc.Webhooks[i].ClientConfig.CABundle = material[certs.CACert]
	}
	for i := range vwc.Webhooks {
		vwc.Webhooks[i].ClientConfig.CABundle = material[certs.CACert]
	}
	if err := errors.Join(kube.Update(t.Context(), mwc), kube.Update(t.Context(), vwc)); err != nil {
		t.Fatal(err)
	}
	for name := range conversions(t) {
		patch := fmt.Sprintf(`{"spec":{"conversion":{"webhook":{"clientConfig":{"caBundle":%q}}}}}`, b64(material[certs.CACert]))
		if err := kube.Patch(t.Context(), crdNamed(name), client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	await.That(t, "it is ready", func() error {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		return m.Ready(t.Context())
	})
	for _, obj := range []client.Object{mutating(t), validating(t), secret(t)} {
		for _, f := range obj.GetManagedFields() {
			if strings.HasPrefix(f.Manager, "kruise-manager") {
				t.Errorf("%T was written by %s", obj, f.Manager)
			}
		}
	}
}

// TestServiceMode_S_platform_2: without WEBHOOK_HOST entries name the Service, and the certificate that is served is for
// it: names, usage, chain to the CA of the Secret.
func TestServiceMode_S_platform_2(t *testing.T) {
	installed(t, install.Options{})
	o := options(t)
	o.Webhook.Host = ""
	m := run(t, o)
	for name, c := range clientConfigs(t) {
		if c.URL != nil || c.Service == nil || c.Service.Name != "kruise-webhook-service" || c.Service.Namespace != "kruise-system" {
			t.Errorf("webhook %s: %v %v", name, c.URL, c.Service)
		}
	}
	for name, c := range conversions(t) {
		if c.URL != nil || c.Service == nil || *c.Service.Path != "/convert" || *c.Service.Port != 443 {
			t.Errorf("CRD %s: %v %v", name, c.URL, c.Service)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret(t).Data[certs.CACert])
	for _, name := range []string{"localhost", "kruise-webhook-service.kruise-system.svc"} {
		conn, err := tls.Dial("tcp", m.WebhookAddr(), &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS13})
		if err != nil {
			t.Fatal(err)
		}
		leaf := conn.ConnectionState().PeerCertificates[0]
		if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(leaf.DNSNames) != 3 {
			t.Errorf("usage %v, names %v", leaf.ExtKeyUsage, leaf.DNSNames)
		}
		_ = conn.Close()
	}
}
