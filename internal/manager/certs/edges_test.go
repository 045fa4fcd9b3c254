// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// issued makes a certificate as others would, with an Ed25519 key, signed by parent or by itself.
func issued(t *testing.T, ca bool, parent *x509.Certificate, parentKey crypto.Signer, names ...string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "somebody's"},
		NotBefore: start.Add(-time.Hour), NotAfter: start.Add(90 * day), DNSNames: names, BasicConstraintsValid: true, IsCA: ca,
	}
	if ca {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if parent == nil {
		parent, parentKey = tmpl, key
	}
	cert, err := sign(tmpl, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func pemOf(t *testing.T, key crypto.Signer, certs ...*x509.Certificate) (certificates, private []byte) {
	t.Helper()
	for _, c := range certs {
		certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificates, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestExternalIssuers: whatever an issuer makes is served, if an apiserver that trusts ca.crt accepts it, and nothing else.
func TestExternalIssuers(t *testing.T) {
	root, rootKey := issued(t, true, nil, nil)
	intermediate, intermediateKey := issued(t, true, root, rootKey)
	signed, signedKey := issued(t, false, intermediate, intermediateKey, testPolicy.Names...)
	self, selfKey := issued(t, false, nil, nil, testPolicy.Names...)
	other, _ := issued(t, true, nil, nil)
	for name, tc := range map[string]struct {
		ca    *x509.Certificate
		key   crypto.Signer
		chain []*x509.Certificate
		ok    bool
	}{
		"chain":                   {root, signedKey, []*x509.Certificate{signed, intermediate}, true},
		"intermediate as ca.crt":  {intermediate, signedKey, []*x509.Certificate{signed}, true},
		"intermediate left out":   {root, signedKey, []*x509.Certificate{signed}, false},
		"of another CA":           {other, signedKey, []*x509.Certificate{signed, intermediate, root}, false},
		"signed by itself":        {self, selfKey, []*x509.Certificate{self}, true}, // cert-manager's SelfSigned issuer
		"signed by another self":  {signed, selfKey, []*x509.Certificate{self}, false},
		"key of somebody else":    {root, selfKey, []*x509.Certificate{signed, intermediate}, false},
		"CA instead of the chain": {root, signedKey, []*x509.Certificate{root}, false},
	} {
		t.Run(name, func(t *testing.T) {
			data := map[string][]byte{}
			data[ServerCert], data[ServerKey] = pemOf(t, tc.key, tc.chain...)
			data[ExternalCA], _ = pemOf(t, tc.key, tc.ca)
			k := newKeeper(&cluster{now: start}, &memory{data: data})
			k.External, k.Dir = true, filepath.Join(t.TempDir(), "certs")
			_, err := k.Sync(context.Background())
			if (err == nil) != tc.ok {
				t.Fatalf("%v, want ok %t", err, tc.ok)
			}
			if !tc.ok {
				return
			}
			// As readiness asks.
			cert, err := k.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			between := x509.NewCertPool()
			for _, c := range tc.chain[1:] {
				between.AddCert(c)
			}
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: k.Roots(), Intermediates: between, DNSName: "localhost", CurrentTime: start}); err != nil {
				t.Error(err)
			}
			if got := mustLoad(Files{k.Dir}); string(got[ServerKey]) != string(data[ServerKey]) || string(got[ServerCert]) != string(data[ServerCert]) {
				t.Error("the files don't hold what the Secret holds")
			}
		})
	}
}

// TestForeignCA: a CA that somebody put into the Secret signs, whatever its key is.
func TestForeignCA(t *testing.T) {
	ca, key := issued(t, true, nil, nil)
	ca.NotAfter = start.Add(700 * day)
	s := &memory{data: map[string][]byte{}}
	s.data[CACert], s.data[CAKey] = pemOf(t, key, ca)
	c := &cluster{now: start}
	k := newKeeper(c, s)
	syncOnce(t, k)
	if acceptable(Parse(s.data), testPolicy, c.now) != nil {
		t.Error("no certificate was made")
	}
}

// TestCAOfTheFuture: with a CA that is not valid yet, of a replica whose clock is far ahead, nothing could be served, so it
// must not sign.
func TestCAOfTheFuture(t *testing.T) {
	ahead := &cluster{now: start.Add(30 * day)}
	s := &memory{}
	syncOnce(t, newKeeper(ahead, s))

	c := &cluster{now: start}
	k := newKeeper(c, s)
	syncOnce(t, k)
	if err := acceptable(Parse(s.data), testPolicy, c.now); err != nil {
		t.Errorf("what was made can't be served: %v", err)
	}
	settle(t, c, k)
	written := s.version
	for range 3 {
		c.now = c.now.Add(time.Minute)
		syncOnce(t, k)
	}
	if s.version != written {
		t.Error("the Secret is written again and again")
	}
}

// unreachable is a cluster that lacks one of the configurations for ever.
type unreachable struct{ err error }

func (u unreachable) Publish(context.Context, []byte) (bool, error) { return false, u.err }

// TestExpiredWhilePublishingFails: that one object can't be told is no reason to go on with an expired certificate in all
// the others.
func TestExpiredWhilePublishingFails(t *testing.T) {
	c := &cluster{now: start}
	s := &memory{}
	k := newKeeper(c, s)
	settle(t, c, k)
	k.Publisher = unreachable{errors.New("not found ValidatingWebhookConfiguration x")}
	c.now = c.now.Add(91 * day)
	for range 3 {
		if _, err := k.Sync(context.Background()); err == nil {
			t.Fatal("the problem is not told any more")
		}
		c.now = c.now.Add(10 * time.Second)
	}
	if cert, err := k.GetCertificate(nil); err != nil || cert.Leaf.NotAfter.Before(c.now) {
		t.Errorf("an expired certificate is served: %v", err)
	}
}

// contested is a Store that somebody else writes whenever we try to.
type contested struct {
	memory
	times int
}

func (c *contested) Save(ctx context.Context, data map[string][]byte, token string) error {
	if c.times > 0 {
		c.times--
		return ErrConflict
	}
	return c.memory.Save(ctx, data, token)
}

// TestConflictIsNoSuccess: a step that was lost to another replica is taken again, and is not mistaken for the first
// success, after which controllers start.
func TestConflictIsNoSuccess(t *testing.T) {
	for _, times := range []int{1, 3, 1000} {
		c := &cluster{now: start}
		k := &Keeper{Store: &contested{times: times}, Publisher: c, Policy: testPolicy, Log: logr.Discard(), Now: func() time.Time { return c.now }}
		_, err := k.Sync(context.Background())
		if served := k.served.Load() != nil && len(c.published) > 0; served != (err == nil) || served != (times < 1000) {
			t.Errorf("after %d conflicts: in order %t, error %v", times, served, err)
		}
	}
}

// TestNothingIsLeft: what could not be written whole takes no room: the directory is small, and there will be more tries.
func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	if err := writeFiles(dir, map[string][]byte{"a/b": []byte("no such directory")}); err == nil {
		t.Fatal("it was written")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
