// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
)

// replicas runs n managers behind a balancer, as the Deployment and the Service would.
func replicas(t *testing.T, n int) (*balancer, []*running) {
	t.Helper()
	b := newBalancer(t)
	backends := make([]string, n)
	for i := range backends {
		backends[i] = freeAddr(t)
	}
	b.set(backends...)
	managers := make([]*running, n)
	var wg sync.WaitGroup
	for i := range managers {
		o := options(t)
		o.Webhook.Port, o.Webhook.ListenAddr = b.port(), backends[i]
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

func TestFreshInstall_S_platform_1(t *testing.T) {
	installed(t, install.Options{})
	begin := time.Now()
	replicas(t, 2)
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("ready after %s", d)
	}
	data := secret(t).Data
	for _, key := range []string{certs.CACert, certs.CAKey, certs.LeafCert, certs.LeafKey, certs.ServerCert, certs.ServerKey} {
		if len(data[key]) == 0 {
			t.Errorf("the Secret lacks %s", key)
		}
	}
	if err := injected(t, data[certs.CACert]); err != nil {
		t.Error(err)
	}
	if len(clientConfigs(t)) == 0 {
		t.Error("there are no webhooks")
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
	eventually(t, 10*time.Second, "the Secret is there again", func() error {
		var s corev1.Secret
		return kube.Get(t.Context(), client.ObjectKeyFromObject(before), &s)
	})
	eventually(t, 10*time.Second, "configurations carry the new CA", func() error {
		data := secret(t).Data
		if bytes.Equal(data[certs.CACert], before.Data[certs.CACert]) {
			return errors.New("the CA is the old one")
		}
		return injected(t, data[certs.CACert])
	})
	eventually(t, 40*time.Second, "the old CA and the old certificate are gone", func() error {
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

// TestLongLivedCertificate_S_platform_4 puts a certificate of ten years into the Secret, 100 days before its end.
func TestLongLivedCertificate_S_platform_4(t *testing.T) {
	installed(t, install.Options{})
	old := longLived(t)
	if err := kube.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-webhook-certs"}, Data: old}); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Webhook.RenewBefore = 30 * 24 * time.Hour
	m := run(t, o)
	if !bytes.Equal(secret(t).Data[certs.ServerCert], old[certs.ServerCert]) {
		t.Error("with CERTS_RENEW_BEFORE=30d it is kept")
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	run(t, options(t))
	eventually(t, time.Minute, "the certificate is replaced", func() error {
		data := secret(t).Data
		if bytes.Equal(data[certs.ServerCert], old[certs.ServerCert]) {
			return errors.New("it is not")
		}
		block, _ := pem.Decode(data[certs.ServerCert])
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err == nil && leaf.NotAfter.Sub(leaf.NotBefore) > 90*24*time.Hour {
			err = fmt.Errorf("it lives for %s", leaf.NotAfter.Sub(leaf.NotBefore))
		}
		return err
	})
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
	eventually(t, 10*time.Second, "the CA is back", func() error { return injected(t, bundle) })
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
	eventually(t, 10*time.Second, "the manager tells", func() error {
		if err := m.SyncError(); err == nil || !strings.Contains(err.Error(), "kruise-validating-webhook-configuration") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	if err := m.Ready(t.Context()); err != nil {
		t.Errorf("the manager is not ready any more: %v", err)
	}
	if err := install.Install(t.Context(), cfg, install.Options{WebhookHost: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "the CA is injected", func() error { return injected(t, secret(t).Data[certs.CACert]) })
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
	eventually(t, 10*time.Second, "it is not ready and says why", func() error {
		err := m.Ready(t.Context())
		if err == nil || !strings.Contains(err.Error(), "kruise-mutating-webhook-configuration") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
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
	eventually(t, 15*time.Second, "it is ready", func() error {
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
