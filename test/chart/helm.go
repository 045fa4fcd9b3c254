// SPDX-License-Identifier: Apache-2.0

// Package chart tests the Helm chart: what it renders, and what it installs on a real control plane.
package chart

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/test/cluster"
)

// Release is the name of the chart's release in tests.
const Release = "kruise"

// Helm runs bin/helm and returns what it prints on each stream.
func Helm(ctx context.Context, kubeconfig string, args ...string) (stdout, stderr string, err error) {
	bin, err := cluster.Binary("helm")
	if err != nil {
		return "", "", fmt.Errorf("%w (make bin/helm)", err)
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(cmd.Environ(), "KUBECONFIG="+kubeconfig)
	for _, kind := range []string{"CACHE", "CONFIG", "DATA"} { // nothing of the user's, nothing left behind
		cmd.Env = append(cmd.Env, "HELM_"+kind+"_HOME=/nonexistent")
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errs.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String(), nil
}

// Dir is the chart of this repository. It looks at every file, because Helm reads them in a process of its own: without,
// `go test` would take the result of a test before a change of the chart for the one after.
func Dir() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		chart := filepath.Join(dir, "charts", "kruise")
		if _, err := os.Stat(chart); err == nil {
			looked.Do(func() {
				_ = filepath.WalkDir(chart, func(path string, _ fs.DirEntry, _ error) error { // Helm tells what can't be read
					_, _ = os.Stat(path)
					return nil
				})
			})
			return chart
		}
		dir = filepath.Dir(dir)
	}
	return "charts/kruise is not in this repository"
}

var looked sync.Once

// CRDs is the chart of the CustomResourceDefinitions.
func CRDs() string { return filepath.Join(filepath.Dir(Dir()), "kruise-crds") }

// Template renders the chart without a cluster.
func Template(ctx context.Context, args ...string) (Objects, error) {
	text, _, err := Helm(ctx, "/dev/null", append([]string{"template", Release, Dir()}, args...)...)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Objects are what a chart renders, by "Kind/name".
type Objects map[string]*unstructured.Unstructured

// Parse reads YAML documents.
func Parse(text string) (Objects, error) {
	out := Objects{}
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, doc)
		}
		if len(u.Object) == 0 {
			continue
		}
		key := u.GetKind() + "/" + u.GetName()
		if ns := u.GetNamespace(); out[key] != nil {
			key += "." + ns
		}
		if out[key] != nil {
			return nil, fmt.Errorf("%s is rendered twice", key)
		}
		out[key] = u
	}
	return out, nil
}

// Text is an object as YAML; empty if it is not rendered.
func (o Objects) Text(key string) string {
	if o[key] == nil {
		return ""
	}
	b, err := yaml.Marshal(o[key].Object)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// All is everything as YAML.
func (o Objects) All() string {
	b, err := yaml.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
