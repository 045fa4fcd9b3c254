// SPDX-License-Identifier: Apache-2.0

// Package registry is the image registry of a lab with real nodes. It keeps images in memory, serves them to nodes
// read-only, asks for credentials where a repository is private, and slows down or breaks pulls when a test tells it to.
//
// It listens on two ports of the machine's loopback: one that takes pushes and the knobs under /lab/, and one for pulls
// only, which the nodes reach through the gateway.
package registry

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"kruise.io/kruise/lab/images"
)

// Name is how the registry's process is called.
const Name = "lab-registry"

// Repositories under PrivatePrefix are pulled with these credentials only.
const (
	PrivatePrefix = "private/"
	User          = "lab"
	Password      = "secret" // of a registry on loopback, no secret
)

// Config says where the registry listens.
type Config struct {
	Push string // address for pushes and knobs
	Pull string // address for pulls
	App  string // path of the lab-app binary, which goes into images
}

// Run serves until it is killed. It returns the exit code.
func Run(c Config) int {
	if err := run(c); err != nil {
		log.Print(err)
	}
	return 1
}

func run(c Config) error {
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	knobs := newKnobs()
	filled := make(chan struct{})

	push := http.NewServeMux()
	push.Handle("/v2/", store)
	knobs.register(push)
	push.HandleFunc("GET /lab/healthz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-filled:
			fmt.Fprintln(w, "ok")
		default:
			http.Error(w, "images are being made", http.StatusServiceUnavailable)
		}
	})
	pull := readOnly(knobs.middleware(private(store)))

	ended := make(chan error, 2)
	for address, h := range map[string]http.Handler{c.Push: push, c.Pull: pull} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		go func() { ended <- server.Serve(l) }()
	}
	if err := images.Publish(context.Background(), c.Push, c.App); err != nil {
		return fmt.Errorf("publish images: %w", err)
	}
	close(filled)
	return <-ended
}

func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "read-only", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// private asks for credentials before it answers for a private repository.
func private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t, ok := parse(r.URL.Path); ok && strings.HasPrefix(t.repository, PrivatePrefix) && !authorized(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func authorized(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	return ok && subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(User+":"+Password)) == 1
}

// target is what a request asks for.
type target struct{ repository, kind, reference string } // kind is "manifest" or "blob"

// parse reads /v2/<repository>/manifests/<reference> and /v2/<repository>/blobs/<digest>.
func parse(path string) (target, bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return target{}, false
	}
	for part, kind := range map[string]string{"/manifests/": "manifest", "/blobs/": "blob"} {
		if i := strings.LastIndex(rest, part); i > 0 {
			return target{repository: rest[:i], kind: kind, reference: rest[i+len(part):]}, true
		}
	}
	return target{}, false
}

func readJSON(r *http.Request, into any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("one JSON value expected")
	}
	return nil
}
