// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/imagepull/reference"
)

// Broker asks the manager for credentials, which nobody keeps on the node (security 5.3.2).
type Broker struct {
	// URL is where the manager answers.
	URL string
	// Dir has the token and the CA, as a projected volume keeps them up to date.
	Dir string
	// Address (host:port) is connected to if the URL's host cannot be: nodes may have no cluster DNS. Empty for none.
	Address string
}

const (
	brokerTimeout = 10 * time.Second
	maxAnswer     = 1 << 20 // bytes
)

// secrets returns what the jobs behind a task of this node have for its image, as secrets without name.
func (b *Broker) secrets(ctx context.Context, image reference.Image) ([]corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	ca, err := os.ReadFile(filepath.Join(b.Dir, credentials.CAFile))
	if err != nil {
		return nil, fmt.Errorf("the manager's CA: %w", err)
	}
	token, err := os.ReadFile(filepath.Join(b.Dir, credentials.TokenFile))
	if err != nil {
		return nil, fmt.Errorf("the token for the manager: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the manager's CA is no certificate")
	}
	body, err := json.Marshal(credentials.Request{Image: image.Name, Tag: image.Tag})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	// One connection per pull: both files may have changed since the last one. No proxy is asked.
	transport := &http.Transport{DialContext: b.dial, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the manager answers %s", resp.Status)
	}
	var answer credentials.Answer
	if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer) != nil {
		return nil, errors.New("the manager's answer can't be read")
	}
	list := make([]corev1.Secret, 0, len(answer.Configs))
	for _, c := range answer.Configs {
		list = append(list, corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: c}})
	}
	return list, nil
}

func (b *Broker) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil && b.Address != "" {
		return d.DialContext(ctx, network, b.Address)
	}
	return conn, err
}
