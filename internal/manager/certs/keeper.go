// SPDX-License-Identifier: Apache-2.0

// Package certs keeps the webhook server's certificates: it makes them, stores them where all replicas find them,
// rotates CA and certificate in two phases so that no admission request fails, and hands them to the TLS server
// (platform 5.3, security 5.5).
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	certmetrics "sigs.k8s.io/controller-runtime/pkg/certwatcher/metrics"
)

var errKeyPair = errors.New("no certificate, or the key is not its own")

// ErrConflict is returned by Store.Save when the stored data changed since it was loaded.
var ErrConflict = errors.New("certificates were changed by somebody else")

// Store is where certificates live.
type Store interface {
	// Load returns the data, empty if there is none, and a token for Save.
	Load(ctx context.Context) (data map[string][]byte, token string, err error)
	// Save replaces the data, or returns ErrConflict if it is not what the token was given for.
	Save(ctx context.Context, data map[string][]byte, token string) error
}

// Publisher makes the apiserver trust a CA bundle.
type Publisher interface {
	// Publish puts the bundle into every configuration that lacks it. It returns true if all carried it before the call.
	Publish(ctx context.Context, bundle []byte) (everywhere bool, err error)
}

// Keeper keeps the certificates of one process. Sync is called by one goroutine; the getters by any.
type Keeper struct {
	Store     Store
	Publisher Publisher
	Policy    Policy
	// External: the store is written by somebody else and read only; Policy only says which names to check.
	External bool
	// Dir receives the files; empty means none.
	Dir string
	Log logr.Logger
	// Now is a clock; nil means time.Now.
	Now func() time.Time

	served      atomic.Pointer[served]
	bundle      []byte // last published
	publishedAt time.Time
}

type served struct {
	Material
	cert   *tls.Certificate
	bundle []byte
	since  time.Time
}

// maxConflicts is how often in a row a step may be lost to others that write the store.
const maxConflicts = 10

// Sync compares store, configurations and what is served, takes the next step and returns when to look again.
func (k *Keeper) Sync(ctx context.Context) (next time.Duration, err error) {
	for range maxConflicts {
		if next, err = k.step(ctx); !errors.Is(err, ErrConflict) {
			break
		}
	}
	return next, err
}

func (k *Keeper) step(ctx context.Context) (time.Duration, error) {
	data, token, err := k.Store.Load(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading webhook certificates: %w", err)
	}
	if k.External {
		return time.Minute, k.syncExternal(ctx, data)
	}
	stored := Parse(data)
	o := k.observe(stored)
	next, why, err := plan(o, k.Policy)
	if err != nil {
		return 0, err
	}
	if len(why) > 0 || !complete(data) {
		out, err := next.Data()
		if err != nil {
			return 0, err
		}
		if err := k.Store.Save(ctx, out, token); err != nil {
			return 0, fmt.Errorf("writing webhook certificates: %w", err)
		}
		k.Log.Info("Updated webhook certificates", "steps", why, "expires", next.Leaf.NotAfter)
	}
	return k.publishAndServe(ctx, next)
}

func (k *Keeper) publishAndServe(ctx context.Context, next Material) (time.Duration, error) {
	bundle, err := next.Bundle()
	if err != nil {
		return 0, err
	}
	if k.served.Load() == nil {
		// Nothing to lose: the first certificate is served at once, so that readiness and other replicas' users see it.
		if err := k.serve(next, bundle); err != nil {
			return 0, err
		}
	}
	everywhere, err := k.Publisher.Publish(ctx, bundle)
	now := k.now()
	switch {
	case err != nil:
		k.publishedAt = time.Time{}
	case !everywhere, k.publishedAt.IsZero(), !bytes.Equal(bundle, k.bundle):
		k.bundle, k.publishedAt = bundle, now
	}
	current := k.served.Load()
	settled := err == nil && now.Sub(k.publishedAt) >= k.Policy.Settle
	switch {
	case !next.sameLeaf(current.Material) && (settled || now.After(current.Leaf.NotAfter)): // an expired one is of no use anywhere
		err = errors.Join(err, k.serve(next, bundle))
	case err == nil && !bytes.Equal(current.bundle, bundle):
		err = k.trust(next, bundle)
	}
	if err != nil {
		return 0, err
	}
	return k.lookAgain(next, now), nil
}

// lookAgain is a minute, sooner while a rotation is under way.
func (k *Keeper) lookAgain(m Material, now time.Time) time.Duration {
	current := k.served.Load()
	soon := time.Minute
	if ca := m.signing(); ca == nil || !m.sameLeaf(current.Material) || m.verify([]*x509.Certificate{ca}, "", now) != nil {
		soon = max(k.Policy.Settle-now.Sub(k.publishedAt), 0) + 10*time.Millisecond
	} else if len(m.CAs) > 1 {
		soon = max(k.Policy.Overlap-now.Sub(current.since), 0) + 10*time.Millisecond
	}
	return min(soon, time.Minute)
}

func (k *Keeper) observe(stored Material) observation {
	now := k.now()
	o := observation{Now: now, Stored: stored, Published: -1}
	if s := k.served.Load(); s != nil {
		o.Served, o.ServedFor = s.Material, now.Sub(s.since)
	}
	if b, err := stored.Bundle(); err == nil && len(b) > 0 && bytes.Equal(b, k.bundle) && !k.publishedAt.IsZero() {
		o.Published = now.Sub(k.publishedAt)
	}
	return o
}

// syncExternal serves what somebody else wrote, after checking it, and never writes anything but files (platform W7).
func (k *Keeper) syncExternal(ctx context.Context, data map[string][]byte) error {
	m := Parse(map[string][]byte{ServerCert: data[ServerCert], ServerKey: data[ServerKey]})
	m.CAs = certificates(data[ExternalCA]) // apiservers also trust one that is no CA: a certificate that signed itself
	for _, key := range []string{ExternalCA, ServerCert, ServerKey} {
		if len(data[key]) == 0 {
			return fmt.Errorf("external webhook certificates: key %s is missing", key)
		}
	}
	if err := acceptable(m, k.Policy, k.now()); err != nil {
		return fmt.Errorf("external webhook certificates: %w", err)
	}
	if s := k.served.Load(); s == nil || !m.sameLeaf(s.Material) || !bytes.Equal(s.bundle, data[ExternalCA]) {
		if err := k.serve(m, data[ExternalCA]); err != nil {
			return err
		}
	}
	_, err := k.Publisher.Publish(ctx, data[ExternalCA])
	return err
}

// serve makes new TLS connections use the material.
func (k *Keeper) serve(m Material, bundle []byte) error {
	k.served.Store(&served{Material: m, cert: m.tlsCertificate(), bundle: bundle, since: k.now()})
	certmetrics.ReadCertificateTotal.Inc() // dashboards know it; the certificate is read from memory, whenever it changes
	k.Log.Info("Serving a webhook certificate", "names", k.Policy.Names, "serial", m.Leaf.SerialNumber.String(), "expires", m.Leaf.NotAfter)
	return k.writeFiles(m, bundle)
}

// trust changes the bundle while the certificate stays.
func (k *Keeper) trust(m Material, bundle []byte) error {
	s := *k.served.Load()
	s.CAs, s.CAKey, s.bundle = m.CAs, m.CAKey, bundle
	k.served.Store(&s)
	return k.writeFiles(m, bundle)
}

func (k *Keeper) writeFiles(m Material, bundle []byte) error {
	if k.Dir == "" {
		return nil
	}
	data, err := m.Data()
	if err != nil {
		return err
	}
	data[CACert] = bundle
	return writeFiles(k.Dir, data)
}

func complete(data map[string][]byte) bool {
	for _, key := range []string{CACert, CAKey, LeafCert, LeafKey, ServerCert, ServerKey} {
		if len(data[key]) == 0 {
			return false
		}
	}
	return true
}

func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := k.served.Load()
	if s == nil {
		return nil, errors.New("there is no webhook certificate yet")
	}
	return s.cert, nil
}

// Roots returns the CAs that clients should trust, nil before the first certificate.
func (k *Keeper) Roots() *x509.CertPool {
	s := k.served.Load()
	if s == nil {
		return nil
	}
	return pool(s.CAs)
}

// Expiry returns when the certificate in use ends; the zero time before the first one.
func (k *Keeper) Expiry() time.Time {
	if s := k.served.Load(); s != nil {
		return s.Leaf.NotAfter
	}
	return time.Time{}
}
