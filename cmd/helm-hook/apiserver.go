// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// accountDir is where a pod finds its ServiceAccount.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// answerLimit bounds what is read of an answer: the CRDs of a large cluster are some MiB.
const answerLimit = 64 << 20

// apiserver is the little of a client that a hook needs; the library's would be most of the image.
type apiserver struct {
	server, tokenFile, caFile string

	client http.Client
	token  string
}

// inClusterServer is the apiserver's URL in a pod, "" elsewhere.
func inClusterServer() string {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return ""
	}
	return "https://" + net.JoinHostPort(host, port)
}

func (a *apiserver) connect() error {
	if a.server == "" {
		return fmt.Errorf("no apiserver: run this in a pod or give -server")
	}
	token, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	a.token = strings.TrimSpace(string(token))
	ca, err := os.ReadFile(a.caFile)
	if err != nil {
		return fmt.Errorf("reading the apiserver's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s holds no certificate", a.caFile)
	}
	a.client = http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	}
	return nil
}

// statusError is an answer other than success.
type statusError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *statusError) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// do sends body, if not nil, as a merge patch if it is one, and reads the answer into the object at into.
func (a *apiserver) do(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.server+path, content) //nolint:gosec // G704: the server is whom the pod or the operator names
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	req.Header.Set("User-Agent", "kruise-helm-hook")
	resp, err := a.client.Do(req) //nolint:gosec // G704: as above
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		status := &statusError{}
		if json.Unmarshal(answer, status) != nil || status.Message == "" {
			status.Message = string(answer[:min(len(answer), 500)])
		}
		status.Code = resp.StatusCode
		return fmt.Errorf("%s %s: %w", method, path, status)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// pageSize is how many objects are listed at once.
const pageSize = 500

// listed is what the hooks look at of an object in a list.
type listed struct {
	Metadata struct {
		Namespace       string   `json:"namespace"`
		Name            string   `json:"name"`
		ResourceVersion string   `json:"resourceVersion"`
		Finalizers      []string `json:"finalizers"`
	} `json:"metadata"`
}

// page lists objects of a kind from token on, which is empty for the first page. next is empty after the last one.
func (a *apiserver) page(ctx context.Context, kind, token string) (items []listed, next string, err error) {
	var page struct {
		Metadata struct {
			Continue string `json:"continue"`
		} `json:"metadata"`
		Items []listed `json:"items"`
	}
	err = a.do(ctx, http.MethodGet, fmt.Sprintf("%s?limit=%d&continue=%s", kind, pageSize, url.QueryEscape(token)), nil, &page)
	return page.Items, page.Metadata.Continue, err
}
