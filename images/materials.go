// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// rootsModule is where the CA certificates come from.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// materials is what an image for one platform is made of, as its files and this program tell it.
type materials struct {
	Go       string // go1.26.8
	Programs []builtProgram
	Modules  []module // of all programs, by path
	Roots    module   // the CA certificates
}

// builtProgram is a program in an image.
type builtProgram struct {
	Path    string // in the image, with slash
	Package string
	SHA256  string
	Modules []string // keys
}

// module is a Go module at a version; Licence is an SPDX expression.
type module struct {
	Path, Version, Sum, Licence string
}

func (m module) key() string { return m.Path + "@" + m.Version }

// purl is the module's package URL.
func (m module) purl() string { return "pkg:golang/" + m.key() }

// dirHash is the module's sum ("h1:...") in hexadecimal, or nothing.
func (m module) dirHash() string {
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil {
		return ""
	}
	return hex.EncodeToString(sum)
}

// licences are the licences of the modules that the programs are made of, by path and version.
func (w workshop) licences(ctx context.Context) (map[string]string, error) {
	var patterns []string
	for _, r := range available(w.root) {
		for _, p := range r.programs {
			patterns = append(patterns, p.pkg)
		}
	}
	packages, err := listPackages(ctx, w.root, false, patterns...)
	if err != nil {
		return nil, err
	}
	result := map[string]string{}
	for _, p := range packages {
		if _, ok := result[name(p)]; ok || ours(p.Module.Path) {
			continue
		}
		findings, err := findLicences(p.Module.Dir)
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, f := range findings {
			ids = append(ids, f.Licences...)
		}
		slices.Sort(ids)
		result[name(p)] = strings.Join(slices.Compact(ids), " AND ")
	}
	return result, nil
}

// materials reads from the programs themselves what they were made of.
func (w workshop) materials(r recipe, platform v1.Platform, files, licences map[string]string) (materials, error) {
	var m materials
	all := map[string]module{}
	for _, p := range r.programs {
		info, err := buildinfo.ReadFile(files[p.path])
		if err != nil {
			return m, err
		}
		m.Go = info.GoVersion
		sum, err := fileSum(files[p.path])
		if err != nil {
			return m, err
		}
		program := builtProgram{Path: "/" + p.path, Package: info.Path, SHA256: sum}
		for _, d := range append([]*debug.Module{&info.Main}, info.Deps...) {
			mod := w.module(d, licences)
			all[mod.Path] = mod
			program.Modules = append(program.Modules, mod.key())
		}
		m.Programs = append(m.Programs, program)
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		m.Modules = append(m.Modules, all[path])
	}
	self, ok := debug.ReadBuildInfo()
	if !ok {
		return m, fmt.Errorf("%s: this program was built without information on its modules", platform)
	}
	for _, d := range self.Deps {
		if d.Path == rootsModule {
			m.Roots = module{Path: d.Path, Version: d.Version, Sum: d.Sum, Licence: "MPL-2.0"}
		}
	}
	return m, nil
}

// module is a module of ours, with the images' version, or of others.
func (w workshop) module(d *debug.Module, licences map[string]string) module {
	if ours(d.Path) {
		return module{Path: d.Path, Version: w.source.Version, Licence: "Apache-2.0"}
	}
	if d.Replace != nil {
		d = d.Replace
	}
	return module{Path: d.Path, Version: d.Version, Sum: d.Sum, Licence: licences[d.Path+"@"+d.Version]}
}

func fileSum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
