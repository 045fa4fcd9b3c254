// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// program is a program of the images (platform 2.1).
type program struct {
	path string // in the image
	pkg  string // in the repository
}

var (
	managerProgram = program{path: "manager", pkg: "./cmd/kruise-manager"}
	daemonProgram  = program{path: "kruise-daemon", pkg: "./cmd/kruise-daemon"}
	hookProgram    = program{path: "helm_hook", pkg: "./cmd/helm-hook"}
)

// recipe says what an image is made of.
type recipe struct {
	name        string
	title       string
	description string
	programs    []program // the first is the entrypoint
}

// recipes are all images (platform 2.1). The uninstall guard is also in the manager's image, so that an installation needs
// one image only; the small one is what existing values name.
var recipes = []recipe{{
	name:        "kruise-manager",
	title:       "Kruise manager and node agent",
	description: "Control plane (/manager), node agent (/kruise-daemon) and uninstall guard (/helm_hook) of Kruise.",
	programs:    []program{managerProgram, daemonProgram, hookProgram},
}, {
	name:        "kruise-helm-hook",
	title:       "Kruise uninstall guard",
	description: "Refuses to uninstall Kruise while objects exist that own pods.",
	programs:    []program{hookProgram},
}}

// available are the recipes without the programs, and the images without any program, that these sources do not have.
func available(root string) []recipe {
	var result []recipe
	for _, r := range recipes {
		r.programs = slices.DeleteFunc(slices.Clone(r.programs), func(p program) bool {
			_, err := os.Stat(filepath.Join(root, p.pkg))
			return errors.Is(err, os.ErrNotExist)
		})
		if len(r.programs) > 0 {
			result = append(result, r)
		}
	}
	return result
}

// versionVariable is where programs find their version.
const versionVariable = "kruise.io/kruise/internal/version.version"

type workshop struct {
	root      string
	source    source
	builderID string
	platforms []v1.Platform
}

// binaries are the files of built programs, by platform ("linux/amd64") and the program's path in the image.
type binaries map[string]map[string]string

// programs compiles what the recipes need into dir.
func (w workshop) programs(ctx context.Context, dir string) (binaries, error) {
	built := binaries{}
	for _, platform := range w.platforms {
		files := map[string]string{}
		built[platform.String()] = files
		for _, r := range available(w.root) {
			for _, p := range r.programs {
				if files[p.path] != "" {
					continue
				}
				out, err := filepath.Abs(filepath.Join(dir, platform.Architecture, p.path))
				if err != nil {
					return nil, err
				}
				if err := w.compile(ctx, p, platform, out); err != nil {
					return nil, fmt.Errorf("%s for %s: %w", p.pkg, platform, err)
				}
				files[p.path] = out
			}
		}
	}
	return built, nil
}

// compile makes a static program whose bytes depend on the sources, their commit, the version and Go only.
func (w workshop) compile(ctx context.Context, p program, platform v1.Platform, out string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build"}, w.flags()...), "-o", out, p.pkg)...)
	cmd.Dir = w.root
	cmd.Env = append(os.Environ(), w.environment(platform)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// flags are those of `go build`. Without symbols and debug information programs are half as large; panics still name
// functions and lines.
func (w workshop) flags() []string {
	vcs := "-buildvcs=false"
	if w.source.Revision != "" {
		vcs = "-buildvcs=true"
	}
	return []string{"-trimpath", vcs, "-mod=readonly", "-ldflags=-s -w -buildid= -X " + versionVariable + "=" + w.source.Version}
}

// environment fixes whatever the environment could change in a program.
func (w workshop) environment(platform v1.Platform) []string {
	return []string{"CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "GOFIPS140=off",
		"GOOS=" + platform.OS, "GOARCH=" + platform.Architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOPPC64=power8"}
}
