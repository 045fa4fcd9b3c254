// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences that dependencies may have: permissive ones, and MPL-2.0, whose duties end at the file.
var allowed = map[string]bool{
	"0BSD": true, "Apache-2.0": true, "BSD-2-Clause": true, "BSD-3-Clause": true, "BSD-3-Clause-Clear": true, "CC0-1.0": true,
	"ISC": true, "MIT": true, "MIT-0": true, "MPL-2.0": true, "Unicode-DFS-2016": true, "Unlicense": true, "Zlib": true,
}

// minimumCoverage is the percentage of a licence file's words that must belong to known licences; the rest are names and
// headings.
const minimumCoverage = 75

// licenceFile are the names that licence files have.
var licenceFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|unlicense)([.-].*)?$`)

// notALicence are names that look like licence files and are programs or data.
var notALicence = regexp.MustCompile(`(?i)\.(go|json|yaml|yml|tmpl|header|py|sh)$`)

// exceptions are files, by module path and name, that need not be allowed licences, and why.
var exceptions = map[string]string{
	"github.com/opencontainers/go-digest/LICENSE.docs": "the licence of its documentation, of which nothing is distributed",
}

// finding is what was found in a licence file.
type finding struct {
	File     string
	Licences []string // SPDX identifiers, sorted
	Coverage float64  // percent
}

// problem says what is wrong with a finding, or nothing.
func (f finding) problem() string {
	if f.Coverage < minimumCoverage {
		return fmt.Sprintf("only %.0f%% of it are a known licence (%s)", f.Coverage, strings.Join(f.Licences, ", "))
	}
	for _, l := range f.Licences {
		if !allowed[l] {
			return l + " is not in the list of allowed licences"
		}
	}
	return ""
}

// findLicences classifies the licence files in a directory.
func findLicences(dir string) ([]finding, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) || notALicence.MatchString(e.Name()) {
			continue
		}
		file := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		findings = append(findings, classify(file, text))
	}
	return findings, nil
}

func classify(file string, text []byte) finding {
	coverage := licensecheck.Scan(text)
	f := finding{File: file, Coverage: coverage.Percent}
	for _, m := range coverage.Match {
		if !m.IsURL && !slices.Contains(f.Licences, m.ID) {
			f.Licences = append(f.Licences, m.ID)
		}
	}
	slices.Sort(f.Licences)
	return f
}

// listed is a package as `go list` tells it.
type listed struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version string }
	}
}

// listPackages are the packages that others are made of, from other modules, tests included if wanted.
func listPackages(ctx context.Context, dir string, tests bool, patterns ...string) ([]listed, error) {
	args := []string{"list", "-deps", "-json=Dir,Module"}
	if tests {
		args = append(args, "-test")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, patterns...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("go list in %s: %s", dir, exit.Stderr)
	} else if err != nil {
		return nil, err
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		if p.Module != nil && !p.Module.Main && p.Module.Dir != "" {
			packages = append(packages, p)
		}
	}
}

// ours tells whether a module belongs to this repository.
func ours(path string) bool {
	return path == "kruise.io/kruise" || strings.HasPrefix(path, "kruise.io/kruise/")
}

// checkLicences fails unless every module that code or tests of the given modules are made of has licence files, and all of
// them, those of the used packages' directories too, are allowed licences.
func checkLicences(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("licences", flag.ContinueOnError)
	list := fs.Bool("list", false, "Print the licences of each module.")
	if err := fs.Parse(args); err != nil {
		return err
	}
	dirs := map[string][]string{} // by module: directories that may hold licences, its own first
	for _, module := range fs.Args() {
		packages, err := listPackages(ctx, module, true, "./...")
		if err != nil {
			return err
		}
		for _, p := range packages {
			if ours(p.Module.Path) {
				continue
			}
			for dir := p.Dir; len(dir) >= len(p.Module.Dir); dir = filepath.Dir(dir) {
				if !slices.Contains(dirs[name(p)], dir) {
					dirs[name(p)] = append(dirs[name(p)], dir)
				}
			}
		}
	}
	var problems []string
	for _, module := range slices.Sorted(maps.Keys(dirs)) {
		path, _, _ := strings.Cut(module, "@")
		names, wrong, err := checkModule(path, dirs[module])
		if err != nil {
			return err
		}
		for _, w := range wrong {
			problems = append(problems, module+": "+w)
		}
		if *list {
			fmt.Printf("%s\t%s\n", module, strings.Join(names, " AND "))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("licences:\n  %s", strings.Join(problems, "\n  "))
	}
	fmt.Printf("licences: %d modules, all allowed\n", len(dirs))
	return nil
}

// name of a package's module, with its version.
func name(p listed) string {
	if r := p.Module.Replace; r != nil {
		return r.Path + "@" + r.Version
	}
	return p.Module.Path + "@" + p.Module.Version
}

// checkModule tells the licences in a module's directories, and what is wrong with them.
func checkModule(path string, dirs []string) (names, wrong []string, err error) {
	files := 0
	for _, dir := range dirs {
		findings, err := findLicences(dir)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range findings {
			files++
			if exceptions[path+"/"+filepath.Base(f.File)] != "" {
				continue
			}
			if p := f.problem(); p != "" {
				wrong = append(wrong, f.File+": "+p)
			}
			for _, l := range f.Licences {
				if !slices.Contains(names, l) {
					names = append(names, l)
				}
			}
		}
	}
	if files == 0 {
		wrong = append(wrong, "no licence file")
	}
	slices.Sort(names)
	return names, wrong, nil
}
