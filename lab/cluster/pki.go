// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificate describes a certificate of the lab; organization becomes the groups of a client.
type certificate struct {
	name, ca     string
	commonName   string
	organization []string
	server       bool
	addresses    []net.IP // of a server, beside the apiserver's
}

// Two authorities: one for the cluster, one for the aggregator's identity towards extension apiservers.
const (
	clusterCA    = "ca"
	frontProxyCA = "front-proxy-ca"
	validity     = 365 * 24 * time.Hour
)

var certificates = []certificate{
	{name: "etcd", ca: clusterCA, commonName: "etcd", server: true},
	{name: "apiserver", ca: clusterCA, commonName: "kube-apiserver", server: true},
	{name: "serving", ca: clusterCA, commonName: "lab-serving", server: true}, // controller manager and scheduler
	{name: "controller-manager", ca: clusterCA, commonName: "system:kube-controller-manager"},
	{name: "scheduler", ca: clusterCA, commonName: "system:kube-scheduler"},
	{name: "kwok", ca: clusterCA, commonName: "lab:kwok", organization: []string{"system:masters"}},
	{name: "provisioner", ca: clusterCA, commonName: "lab:provisioner", organization: []string{"system:masters"}},
	{name: "kubelet-client", ca: clusterCA, commonName: "kube-apiserver-kubelet-client", organization: []string{"system:masters"}},
	{name: "proxy", ca: clusterCA, commonName: "system:kube-proxy"},
	{name: "admin", ca: clusterCA, commonName: "lab:admin", organization: []string{"system:masters"}},
	{name: "front-proxy", ca: frontProxyCA, commonName: "front-proxy-client"},
}

// pki is a folder of PEM files: <name>.crt, <name>.key.
type pki struct{ dir string }

func (p pki) crt(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p pki) key(name string) string { return filepath.Join(p.dir, name+".key") }

// usable reports whether all files are there and valid for another day.
func (p pki) usable() bool {
	for _, c := range certificates {
		data, err := os.ReadFile(p.crt(c.name))
		if err != nil {
			return false
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return false
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || time.Until(cert.NotAfter) < 24*time.Hour {
			return false
		}
		if _, err := os.Stat(p.key(c.name)); err != nil {
			return false
		}
	}
	for _, key := range []string{"service-account", clusterCA} {
		if _, err := os.Stat(p.key(key)); err != nil {
			return false
		}
	}
	return true
}

// ensure creates authorities, certificates and the service account key unless a usable set is there.
func (p pki) ensure() error {
	if p.usable() {
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	authorities := map[string]*authority{}
	for _, name := range []string{clusterCA, frontProxyCA} {
		ca, err := newAuthority("lab-" + name)
		if err != nil {
			return err
		}
		authorities[name] = ca
		if err := writePEM(p.crt(name), "CERTIFICATE", ca.cert.Raw); err != nil {
			return err
		}
		if err := writeKey(p.key(name), ca.key); err != nil {
			return err
		}
	}
	for _, c := range certificates {
		if err := p.write(authorities[c.ca], c); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return writeKey(p.key("service-account"), key)
}

// write issues a certificate and stores it with its key.
func (p pki) write(ca *authority, c certificate) error {
	der, key, err := ca.issue(c)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", c.name, err)
	}
	if err := writePEM(p.crt(c.name), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(p.key(c.name), key)
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t, err := newTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key}, err
}

func (a *authority) issue(c certificate) (der []byte, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	t, err := newTemplate(pkix.Name{CommonName: c.commonName, Organization: c.organization})
	if err != nil {
		return nil, nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if c.server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.IPAddresses = []net.IP{net.ParseIP(loopback), net.ParseIP("10.96.0.1")}
		t.IPAddresses = append(t.IPAddresses, c.addresses...)
		t.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	}
	der, err = x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	return der, key, err
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      subject,
		NotBefore:    now.Add(-5 * time.Minute),
		NotAfter:     now.Add(validity),
	}, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
