// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

// caCommonName is contract: it is how operators recognise our CA in a bundle.
const caCommonName = "webhook-cert-ca"

// newCA makes a self-signed ECDSA P-256 CA that can sign leaves only (security 5.5).
func newCA(now time.Time, life time.Duration) (*x509.Certificate, crypto.Signer, error) {
	key, serial, err := keyAndSerial()
	if err != nil {
		return nil, nil, err
	}
	notBefore := now.Add(-clockSkew).UTC()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: caCommonName},
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(life),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := sign(tmpl, tmpl, key.Public(), key)
	return cert, key, err
}

// newLeaf makes a serving certificate for the names: DNS names or IP addresses, the first of them the common name. It
// never outlives its CA.
func newLeaf(now time.Time, life time.Duration, names []string, ca *x509.Certificate, caKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	key, serial, err := keyAndSerial()
	if err != nil {
		return nil, nil, err
	}
	notBefore := now.Add(-clockSkew).UTC()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: names[0]},
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if tmpl.NotAfter.After(ca.NotAfter) {
		tmpl.NotAfter = ca.NotAfter
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	cert, err := sign(tmpl, ca, key.Public(), caKey)
	return cert, key, err
}

// clockSkew is how far back certificates are dated, for apiservers whose clock is late.
const clockSkew = 5 * time.Minute

func keyAndSerial() (crypto.Signer, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("generating a serial number: %w", err)
	}
	return key, serial, nil
}

func sign(tmpl, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("signing certificate %q: %w", tmpl.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// matches tells whether the key belongs to the certificate.
func matches(cert *x509.Certificate, key crypto.Signer) bool {
	if cert == nil || key == nil {
		return false
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(cert.PublicKey)
}

// verify reports why the leaf, with its chain, would not be accepted for the name by a client that trusts the CAs.
func (m Material) verify(cas []*x509.Certificate, name string, now time.Time) error {
	_, err := m.Leaf.Verify(x509.VerifyOptions{
		Roots: pool(cas), Intermediates: pool(m.Chain), DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// due tells whether a certificate should be replaced: less than renewBefore is left of it, but never before two thirds
// of its own life are over, so that short-lived certificates don't loop (security 5.5).
func due(cert *x509.Certificate, renewBefore time.Duration, now time.Time) bool {
	if third := cert.NotAfter.Sub(cert.NotBefore) / 3; third < renewBefore {
		renewBefore = third
	}
	return cert.NotAfter.Sub(now) < renewBefore
}
