// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
)

// Check asks this process's own webhook server, as the apiserver would: the certificate has to be trusted by the roots
// and carry the name, and the answer has to be 200 (platform 6, W18).
func Check(ctx context.Context, port int, name string, roots *x509.CertPool) error {
	if roots == nil {
		return errors.New("there is no webhook certificate yet")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := &net.Dialer{}
	tr := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, net.JoinHostPort("localhost", strconv.Itoa(port)))
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(name, strconv.Itoa(port))+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("webhook server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("webhook server: status %s", resp.Status)
	}
	return nil
}

// newQuietLogger writes net/http's complaints at level 4: port scans and probes end many handshakes half way.
func newQuietLogger(l logr.Logger) *log.Logger { return log.New(quiet{l}, "", 0) }

type quiet struct{ log logr.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.log.V(4).Info("Webhook server", "message", strings.TrimSpace(string(p)))
	return len(p), nil
}
