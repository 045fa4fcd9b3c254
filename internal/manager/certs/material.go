// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The keys of the certificate Secret and the names of the files (platform 5.3). ServerCert and ServerKey duplicate
// LeafCert and LeafKey.
const (
	CACert     = "ca-cert.pem"
	CAKey      = "ca-key.pem"
	LeafCert   = "cert.pem"
	LeafKey    = "key.pem"
	ServerCert = "tls.crt"
	ServerKey  = "tls.key"
	// ExternalCA is the CA bundle's key in Secrets that somebody else writes.
	ExternalCA = "ca.crt"
)

// Material is what the six keys hold. Parts that are missing or unreadable are nil.
type Material struct {
	// CAs are trusted by the apiserver; the one CAKey belongs to signs. During a rotation there are two.
	CAs   []*x509.Certificate
	CAKey crypto.Signer
	// Leaf is served; Chain are intermediates behind it, only in certificates that others made.
	Leaf    *x509.Certificate
	Chain   []*x509.Certificate
	LeafKey crypto.Signer
}

// Parse reads the six keys and is lenient: what can't be read counts as absent and is made anew.
func Parse(data map[string][]byte) Material {
	var m Material
	for _, c := range certificates(data[CACert]) {
		if c.IsCA {
			m.CAs = append(m.CAs, c)
		}
	}
	m.CAKey = signer(data[CAKey])
	if chain := certificates(first(data, ServerCert, LeafCert)); len(chain) > 0 {
		m.Leaf, m.Chain = chain[0], chain[1:]
	}
	m.LeafKey = signer(first(data, ServerKey, LeafKey))
	return m
}

func first(data map[string][]byte, keys ...string) []byte {
	for _, k := range keys {
		if len(data[k]) > 0 {
			return data[k]
		}
	}
	return nil
}

func certificates(text []byte) []*x509.Certificate {
	certs, err := certutil.ParseCertsPEM(text)
	if err != nil {
		return nil
	}
	return certs
}

func signer(text []byte) crypto.Signer {
	key, err := keyutil.ParsePrivateKeyPEM(text)
	if err != nil {
		return nil
	}
	s, _ := key.(crypto.Signer)
	return s
}

// Data returns the six keys, five without a CA key.
func (m Material) Data() (map[string][]byte, error) {
	bundle, err := m.Bundle()
	if err != nil {
		return nil, err
	}
	leaf, err := certutil.EncodeCertificates(append([]*x509.Certificate{m.Leaf}, m.Chain...)...)
	if err != nil {
		return nil, fmt.Errorf("encoding the serving certificate: %w", err)
	}
	key, err := encodeKey(m.LeafKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the serving key: %w", err)
	}
	data := map[string][]byte{CACert: bundle, LeafCert: leaf, ServerCert: leaf, LeafKey: key, ServerKey: key}
	if m.CAKey != nil {
		if data[CAKey], err = encodeKey(m.CAKey); err != nil {
			return nil, fmt.Errorf("encoding the CA key: %w", err)
		}
	}
	return data, nil
}

// encodeKey returns a key as PEM. Keys that others made may be of kinds that keyutil reads, but does not write.
func encodeKey(key crypto.Signer) ([]byte, error) {
	switch key.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
		return keyutil.MarshalPrivateKeyToPEM(key)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Bundle returns the CAs as PEM.
func (m Material) Bundle() ([]byte, error) {
	b, err := certutil.EncodeCertificates(m.CAs...)
	if err != nil {
		return nil, fmt.Errorf("encoding the CA bundle: %w", err)
	}
	return b, nil
}

// signing returns the CA that CAKey belongs to, or nil.
func (m Material) signing() *x509.Certificate {
	for _, ca := range m.CAs {
		if matches(ca, m.CAKey) {
			return ca
		}
	}
	return nil
}

// addCA puts a CA into the bundle unless it is there.
func (m *Material) addCA(ca *x509.Certificate, front bool) bool {
	if contains(m.CAs, ca) {
		return false
	}
	if front {
		m.CAs = append([]*x509.Certificate{ca}, m.CAs...)
	} else {
		m.CAs = append(slices.Clone(m.CAs), ca)
	}
	return true
}

func contains(cas []*x509.Certificate, ca *x509.Certificate) bool {
	return slices.ContainsFunc(cas, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, ca.Raw) })
}

// sameLeaf tells whether both hold the same serving certificate.
func (m Material) sameLeaf(o Material) bool {
	return m.Leaf != nil && o.Leaf != nil && bytes.Equal(m.Leaf.Raw, o.Leaf.Raw)
}

// tlsCertificate returns the leaf for a TLS server.
func (m Material) tlsCertificate() *tls.Certificate {
	c := &tls.Certificate{Certificate: [][]byte{m.Leaf.Raw}, PrivateKey: m.LeafKey, Leaf: m.Leaf}
	for _, i := range m.Chain {
		c.Certificate = append(c.Certificate, i.Raw)
	}
	return c
}
