// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kruise.io/kruise/internal/manager/install"
)

// paths is an apiserver that answers by path, and 404 else.
type paths map[string]any

func (f paths) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := f[r.URL.Path]
	if status, refused := answer.(*statusError); refused || !ok {
		if !ok {
			status = &statusError{Code: http.StatusNotFound, Message: "the server could not find the requested resource"}
		}
		w.WriteHeader(status.Code)
		answer = status
	}
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(http.StatusUnauthorized)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// hook runs the command against f.
func hook(t *testing.T, f paths, args ...string) (string, error) {
	t.Helper()
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca"), filepath.Join(dir, "token")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for file, content := range map[string][]byte{ca: certificate, token: []byte("secret\n")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err := run(t.Context(), append(args, "-server="+server.URL, "-ca-file="+ca, "-token-file="+token), &out)
	return out.String(), err
}

func object(namespace, name string) any {
	return map[string]any{"items": []any{map[string]any{"metadata": map[string]any{"namespace": namespace, "name": name}}}}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	const path = "/apis/apps.kruise.io/"
	none := map[string]any{"items": []any{}}
	for name, c := range map[string]struct {
		server paths
		args   []string
		want   string // "" for a clean cluster
	}{
		"nothing is installed":  {server: paths{}},
		"kinds without objects": {server: paths{path + "v1alpha1/clonesets": none, path + "v1beta1/clonesets": none}},
		"in the old version":    {server: paths{path + "v1alpha1/clonesets": object("shop", "web")}, want: "there still exists some clonesets in the cluster, such as shop/web"},
		"in the new version":    {server: paths{path + "v1beta1/statefulsets": object("shop", "db")}, want: "there still exists some advanced statefulsets in the cluster, such as shop/db"},
		"cluster scoped":        {server: paths{path + "v1beta1/sidecarsets": object("", "log")}, want: "there still exists some sidecarsets in the cluster, such as log"},
		"several kinds": {
			server: paths{path + "v1beta1/daemonsets": object("a", "b"), path + "v1beta1/broadcastjobs": object("a", "c")},
			want:   "there still exists some advanced daemonsets in the cluster, such as a/b\nthere still exists some broadcastjobs in the cluster, such as a/c",
		},
		"no right":               {server: paths{path + "v1alpha1/clonesets": &statusError{Code: http.StatusForbidden, Message: "no"}}, want: "cannot tell whether there are clonesets: GET " + path + "v1alpha1/clonesets?limit=1: no (403)"},
		"kinds that own no pods": {server: paths{path + "v1beta1/imagepulljobs": object("a", "b")}},
		"everything":             {server: paths{path + "v1beta1/imagepulljobs": object("a", "b")}, args: []string{"-everything"}, want: "there still exists some imagepulljobs in the cluster, such as a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := hook(t, c.server, c.args...)
			if c.want == "" {
				if err != nil || out != "cluster is clean, ready to delete kruise\n" {
					t.Errorf("%q, %v", out, err)
				}
			} else if fmt.Sprint(err) != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestGuardKnowsAllKinds: of what users make, nothing is forgotten.
func TestGuardKnowsAllKinds(t *testing.T) {
	t.Parallel()
	crds, err := install.CRDs(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds {
		known := slices.ContainsFunc(kinds(), func(k kind) bool {
			return k.group == crd.Spec.Group && k.resource == crd.Spec.Names.Plural && len(k.versions) == len(crd.Spec.Versions)
		})
		if ofNodes := strings.HasPrefix(crd.Spec.Names.Kind, "Node"); known == ofNodes {
			t.Errorf("%s: known %t", crd.Name, known)
		}
	}
}

func TestTest(t *testing.T) {
	t.Parallel()
	const manager, agents = "/apis/apps/v1/namespaces/k/deployments/kruise-controller-manager", "/apis/apps/v1/namespaces/k/daemonsets/kruise-daemon"
	denied := &statusError{Code: http.StatusForbidden, Message: `admission webhook "vcloneset.kb.io" denied the request`}
	works := func() paths {
		return paths{
			manager: map[string]any{"spec": map[string]any{"replicas": 2}, "status": map[string]any{"availableReplicas": 2, "updatedReplicas": 2}},
			agents:  map[string]any{"status": map[string]any{"desiredNumberScheduled": 3, "numberAvailable": 3}},
			"/apis/apiextensions.k8s.io/v1/customresourcedefinitions": map[string]any{"items": []any{map[string]any{
				"metadata": map[string]any{"name": "clonesets.apps.kruise.io"},
				"spec":     map[string]any{"conversion": map[string]any{"strategy": "Webhook", "webhook": map[string]any{"clientConfig": map[string]any{"caBundle": "eA=="}}}},
				"status":   map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}},
			}}},
			"/apis/apps.kruise.io/v1alpha1/namespaces/k/clonesets": denied,
			"/apis/apps.kruise.io/v1beta1/namespaces/k/clonesets":  denied,
		}
	}
	args := []string{"test", "-namespace=k", "-daemon-namespace=k"}
	if out, err := hook(t, works(), args...); err != nil || strings.Count(out, "ok:") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := hook(t, works(), append(args, "-separate-controllers", "-timeout=500ms")...); err == nil || !strings.Contains(err.Error(), "kruise-controllers") {
		t.Errorf("without the controllers' Deployment: %v\n%s", err, out)
	}
	for path, broken := range map[string]any{
		manager: map[string]any{"spec": map[string]any{"replicas": 2}, "status": map[string]any{"availableReplicas": 1, "updatedReplicas": 2}},
		agents:  map[string]any{"status": map[string]any{"desiredNumberScheduled": 3, "numberAvailable": 2}},
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions": map[string]any{"items": []any{}},
		"/apis/apps.kruise.io/v1beta1/namespaces/k/clonesets":     map[string]any{"kind": "CloneSet"},
	} {
		f := works()
		f[path] = broken
		if _, err := hook(t, f, append(args, "-timeout=500ms")...); err == nil || !strings.Contains(err.Error(), "not so: ") {
			t.Errorf("with a broken %s: %v", path, err)
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-bogus"}, {"bogus"}, {"-server="}, {"-server=https://x", "-token-file=/nonexistent/token"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
