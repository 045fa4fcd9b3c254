// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"pgregory.net/rapid"
)

const day = 24 * time.Hour

var testPolicy = Policy{
	Names:  []string{"kruise-webhook-service.kruise-system.svc", "kruise-webhook-service.kruise-system", "localhost"},
	CALife: 730 * day, LeafLife: 90 * day, RenewBefore: 180 * day,
	Settle: 5 * time.Second, Overlap: 10 * time.Minute,
}

// memory is a Store whose tokens behave as resourceVersions.
type memory struct {
	data    map[string][]byte
	version int
}

func (m *memory) Load(context.Context) (map[string][]byte, string, error) {
	if m.data == nil {
		return nil, "", nil
	}
	return maps.Clone(m.data), strconv.Itoa(m.version), nil
}

func (m *memory) Save(_ context.Context, data map[string][]byte, token string) error {
	_, now, _ := m.Load(context.Background())
	if now != token {
		return ErrConflict
	}
	m.put(data)
	return nil
}

func (m *memory) put(data map[string][]byte) { m.data, m.version = data, m.version+1 }

// cluster is the configurations and the clock that all replicas share; an apiserver may be up to lag behind.
type cluster struct {
	now       time.Time
	published []publication
}

type publication struct {
	at     time.Time
	bundle []byte
}

const lag = 4 * time.Second

func (c *cluster) Publish(_ context.Context, bundle []byte) (bool, error) {
	if n := len(c.published); n > 0 && string(c.published[n-1].bundle) == string(bundle) {
		return true, nil
	}
	c.published = append(c.published, publication{c.now, bundle})
	return false, nil
}

// visible are the bundles that some apiserver may trust now.
func (c *cluster) visible() [][]*x509.Certificate {
	var out [][]*x509.Certificate
	for i, p := range slices.Backward(c.published) {
		out = append(out, certificates(p.bundle))
		if c.now.Sub(c.published[i].at) > lag {
			break
		}
	}
	return out
}

func newKeeper(c *cluster, s Store) *Keeper {
	return &Keeper{Store: s, Publisher: c, Policy: testPolicy, Log: logr.Discard(), Now: func() time.Time { return c.now }}
}

func syncOnce(t interface{ Fatal(...any) }, k *Keeper) time.Duration {
	d, err := k.Sync(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// settle advances the clock as the keeper asks until nothing is left to do.
func settle(t interface{ Fatal(...any) }, c *cluster, ks ...*Keeper) {
	for range 100 {
		next := time.Minute
		for _, k := range ks {
			next = min(next, syncOnce(t, k))
		}
		c.now = c.now.Add(next)
		if next == time.Minute && len(Parse(mustLoad(ks[0].Store)).CAs) == 1 {
			return
		}
	}
	t.Fatal("the rotation does not end")
}

func mustLoad(s Store) map[string][]byte {
	d, _, err := s.Load(context.Background())
	if err != nil {
		panic(err)
	}
	return d
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestFreshCertificate_S_platform_2(t *testing.T) {
	c := &cluster{now: start}
	s := &memory{}
	k := newKeeper(c, s)
	syncOnce(t, k)
	if len(s.data) != 6 || !complete(s.data) {
		t.Fatalf("the Secret has %d keys", len(s.data))
	}
	cert, err := k.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf := cert.Leaf
	for _, name := range testPolicy.Names {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: k.Roots(), DNSName: name, CurrentTime: start}); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(leaf.DNSNames, testPolicy.Names) || len(leaf.IPAddresses) != 0 {
		t.Errorf("SANs %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("key usages %v %v", leaf.ExtKeyUsage, leaf.KeyUsage)
	}
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || leaf.NotAfter.Sub(leaf.NotBefore) > 90*day {
		t.Errorf("%T, %s", leaf.PublicKey, leaf.NotAfter.Sub(leaf.NotBefore))
	}
	ca := Parse(s.data).CAs[0]
	if ca.Subject.CommonName != "webhook-cert-ca" || !ca.MaxPathLenZero || ca.KeyUsage != x509.KeyUsageCertSign {
		t.Errorf("CA %v", ca.Subject)
	}
	if string(c.published[0].bundle) != string(s.data[CACert]) {
		t.Error("what is published is not ca-cert.pem")
	}
}

func TestHostMode_S_platform_8(t *testing.T) {
	c := &cluster{now: start}
	k := newKeeper(c, &memory{})
	k.Policy.Names = []string{"10.0.0.5", "localhost"}
	syncOnce(t, k)
	cert, _ := k.GetCertificate(nil)
	if len(cert.Leaf.IPAddresses) != 1 || cert.Leaf.IPAddresses[0].String() != "10.0.0.5" || cert.Leaf.Subject.CommonName != "10.0.0.5" {
		t.Errorf("IP SANs %v, CN %s", cert.Leaf.IPAddresses, cert.Leaf.Subject.CommonName)
	}
}

// TestLongLived_S_platform_4 finds a certificate of ten years, 100 days before its end.
func TestLongLived_S_platform_4(t *testing.T) {
	for _, tc := range []struct {
		renewBefore time.Duration
		kept        bool
	}{{180 * day, false}, {30 * day, true}} {
		t.Run(fmt.Sprintf("renew before %s", tc.renewBefore), func(t *testing.T) {
			c := &cluster{now: start.Add(-3550 * day)}
			old := newKeeper(c, &memory{})
			old.Policy.CALife, old.Policy.LeafLife = 3650*day, 3650*day
			syncOnce(t, old)
			before := mustLoad(old.Store)

			c.now = start
			s := &memory{data: before}
			k := newKeeper(c, s)
			k.Policy.RenewBefore = tc.renewBefore
			syncOnce(t, k)
			c.now = c.now.Add(10 * time.Second)
			syncOnce(t, k)
			kept := string(s.data[ServerCert]) == string(before[ServerCert])
			if kept != tc.kept {
				t.Errorf("kept: %v", kept)
			}
		})
	}
}

// TestContractNames_S_platform_4: a certificate of OpenKruise lacks our additional name and is kept nevertheless.
func TestContractNames_S_platform_4(t *testing.T) {
	c := &cluster{now: start.Add(-day)}
	old := newKeeper(c, &memory{})
	old.Policy.CALife, old.Policy.LeafLife = 3650*day, 3650*day
	old.Policy.Names = []string{"kruise-webhook-service.kruise-system.svc", "localhost"}
	syncOnce(t, old)
	before := mustLoad(old.Store)

	s := &memory{data: before}
	k := newKeeper(c, s)
	k.Policy.Names, k.Policy.MoreNames = old.Policy.Names, []string{"kruise-webhook-service.kruise-system"}
	for range 3 {
		c.now = c.now.Add(day)
		syncOnce(t, k)
	}
	if string(s.data[ServerCert]) != string(before[ServerCert]) || s.version != 0 {
		t.Error("a healthy certificate was replaced")
	}

	fresh := newKeeper(c, &memory{})
	fresh.Policy = k.Policy
	syncOnce(t, fresh)
	if leaf := Parse(mustLoad(fresh.Store)).Leaf; !slices.Equal(leaf.DNSNames, append(old.Policy.Names, k.Policy.MoreNames...)) {
		t.Errorf("SANs of a new certificate: %v", leaf.DNSNames)
	}
}

func TestDeletedSecret(t *testing.T) {
	c := &cluster{now: start}
	s := &memory{}
	k := newKeeper(c, s)
	settle(t, c, k)
	before := mustLoad(s)
	s.data = nil
	syncOnce(t, k)
	if !complete(s.data) || string(s.data[CACert]) == string(before[CACert]) {
		t.Fatal("the Secret was not made anew with a new CA")
	}
	if string(s.data[ServerCert]) != string(before[ServerCert]) || len(Parse(s.data).CAs) != 2 {
		t.Error("the certificate in use must stay until the new CA is known everywhere")
	}
	settle(t, c, k)
	m := Parse(s.data)
	if len(m.CAs) != 1 || string(s.data[ServerCert]) == string(before[ServerCert]) {
		t.Errorf("the rotation did not end: %d CAs", len(m.CAs))
	}
}

// TestNoFailedHandshake runs replicas through anything that may happen to a Secret, and through years. At every moment
// every replica's certificate has to be accepted by every apiserver, also by those that see configurations late.
func TestNoFailedHandshake(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // years of certificates take a while
		if err := f.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{now: start}
		s := &memory{}
		replicas := make([]*Keeper, rapid.IntRange(1, 3).Draw(t, "replicas"))
		for i := range replicas {
			replicas[i] = newKeeper(c, s)
			syncOnce(t, replicas[i])
		}
		settle(t, c, replicas...)
		check := func() {
			for i, k := range replicas {
				sv := k.served.Load()
				if sv == nil {
					continue
				}
				for _, cas := range c.visible() {
					if err := sv.verify(cas, "localhost", c.now); err != nil {
						t.Fatalf("replica %d at %s: %v", i, c.now, err)
					}
				}
			}
		}
		all := func() {
			for _, i := range rapid.Permutation(indices(len(replicas))).Draw(t, "order") {
				syncOnce(t, replicas[i])
				check()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { check() },
			"seconds pass": func(t *rapid.T) {
				c.now = c.now.Add(time.Duration(rapid.IntRange(1, 59).Draw(t, "s")) * time.Second)
				all()
			},
			"days pass": func(t *rapid.T) {
				settle(t, c, replicas...) // replicas look every minute: no step of a rotation takes days
				c.now = c.now.Add(time.Duration(rapid.IntRange(1, 29).Draw(t, "d")) * day)
				all()
			},
			"one syncs": func(t *rapid.T) { syncOnce(t, replicas[rapid.IntRange(0, len(replicas)-1).Draw(t, "i")]) },
			"deleted":   func(*rapid.T) { s.data = nil },
			"emptied":   func(*rapid.T) { s.put(map[string][]byte{}) },
			"key lost": func(t *rapid.T) {
				d := mustLoad(s)
				if len(d) > 0 {
					delete(d, rapid.SampledFrom(slices.Sorted(maps.Keys(d))).Draw(t, "key"))
					s.put(d)
				}
			},
			"garbage": func(t *rapid.T) {
				d := map[string][]byte{}
				maps.Copy(d, mustLoad(s))
				d[rapid.SampledFrom([]string{CACert, CAKey, ServerCert, ServerKey}).Draw(t, "key")] = rapid.SliceOf(rapid.Byte()).Draw(t, "b")
				s.put(d)
			},
			"foreign": func(t *rapid.T) { // as from a backup, or of an installation before
				other := newKeeper(&cluster{now: c.now.Add(-time.Duration(rapid.IntRange(0, 3000).Draw(t, "age")) * day)}, &memory{})
				other.Policy.CALife, other.Policy.LeafLife = 3650*day, 3650*day
				syncOnce(t, other)
				s.put(mustLoad(other.Store))
			},
			"restart in order": func(t *rapid.T) {
				all()
				i := rapid.IntRange(0, len(replicas)-1).Draw(t, "i")
				if len(replicas) > 1 && complete(s.data) && acceptable(Parse(s.data), testPolicy, c.now) == nil && trusted(c, Parse(s.data)) {
					replicas[i] = newKeeper(c, s)
					syncOnce(t, replicas[i])
				}
			},
		})
		settle(t, c, replicas...)
		for _, k := range replicas {
			if !k.served.Load().sameLeaf(Parse(s.data)) {
				t.Fatal("replicas serve different certificates in the end")
			}
		}
	})
}

func trusted(c *cluster, m Material) bool {
	for _, cas := range c.visible() {
		if m.verify(cas, "localhost", c.now) != nil {
			return false
		}
	}
	return true
}

func indices(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestExternal(t *testing.T) {
	c := &cluster{now: start}
	src := &memory{}
	syncOnce(t, newKeeper(c, src))
	good := map[string][]byte{ExternalCA: src.data[CACert], ServerCert: src.data[ServerCert], ServerKey: src.data[ServerKey]}
	s := &memory{data: good}
	k := newKeeper(c, s)
	k.External, k.Dir = true, filepath.Join(t.TempDir(), "certs")
	syncOnce(t, k)
	if s.version != 0 {
		t.Error("an external Secret was written")
	}
	if b, err := os.ReadFile(filepath.Join(k.Dir, CACert)); err != nil || string(b) != string(good[ExternalCA]) {
		t.Errorf("ca-cert.pem: %v", err)
	}
	if _, err := os.Stat(filepath.Join(k.Dir, CAKey)); err == nil {
		t.Error("there is a CA key file")
	}
	k.Policy.Names = []string{"other"}
	if _, err := k.Sync(context.Background()); err == nil {
		t.Error("a certificate for other names was accepted")
	}
}

func TestFiles(t *testing.T) {
	c := &cluster{now: start}
	dir := filepath.Join(t.TempDir(), "certs")
	k := newKeeper(c, Files{dir})
	syncOnce(t, k)
	c.now = c.now.Add(100 * day) // leaf expired while nobody looked
	syncOnce(t, k)
	data := mustLoad(Files{dir})
	if !complete(data) || acceptable(Parse(data), testPolicy, c.now) != nil {
		t.Fatal("no valid certificate in the files")
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", st.Mode(), err)
	}
	for name := range data {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	entries, _ := filepath.Glob(filepath.Join(dir, "..certs-*"))
	if len(entries) != 1 {
		t.Errorf("old files are left: %v", entries)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		Parse(map[string][]byte{CACert: b, CAKey: b, ServerCert: b, ServerKey: b})
	})
}
