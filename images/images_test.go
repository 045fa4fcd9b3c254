// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// maxDownload is how large an image may be.
const maxDownload = 60e6

// archiveEntry is what a layer says about a file, with its content.
type archiveEntry struct {
	header  *tar.Header
	content []byte
}

// buildHere builds all images of the sources in root for this machine's architecture.
func buildHere(t *testing.T, root, out string, args ...string) {
	t.Helper()
	args = append([]string{"--root", root, "--out", out, "--platforms", "linux/" + runtime.GOARCH, "--version", "v0.0.1-test"}, args...)
	if err := run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
}

// open reads an image's archive back: its index, and the image and the attestation for this machine.
func open(t *testing.T, archive string) (v1.ImageIndex, v1.Image, v1.Image) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := l.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 {
		t.Fatalf("%d images in %s, want 1", len(top.Manifests), archive)
	}
	index, err := l.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 2 {
		t.Fatalf("%d manifests in %s, want an image and its attestation", len(manifest.Manifests), archive)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	attestation, err := index.Image(manifest.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index, image, attestation
}

// files are the files of all layers of an image.
func files(t *testing.T, image v1.Image) map[string]archiveEntry {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]archiveEntry{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = archiveEntry{h, content}
		}
		_ = r.Close()
	}
	return found
}

func TestImages(t *testing.T) {
	out := t.TempDir()
	buildHere(t, "..", out)
	for _, r := range available("..") {
		t.Run(r.name, func(t *testing.T) {
			_, image, attestation := open(t, filepath.Join(out, r.name+".tar"))
			content := files(t, image)
			t.Run("S_security_39 user and files", func(t *testing.T) { checkFiles(t, r, image, content) })
			t.Run("programs", func(t *testing.T) { checkPrograms(t, r, content) })
			t.Run("certificates and time zones", func(t *testing.T) { checkData(t, content) })
			t.Run("S_security_39 SBOM and provenance", func(t *testing.T) {
				checkStatements(t, r, image, attestation, content, filepath.Join(out, r.name+"-"+runtime.GOARCH))
			})
			t.Run("labels", func(t *testing.T) { checkLabels(t, image) })
			t.Run("size", func(t *testing.T) {
				size, err := downloadSize(image)
				if err != nil || size > maxDownload {
					t.Errorf("%d bytes, %v", size, err)
				}
				t.Logf("%.1f MB to download", float64(size)/1e6)
			})
		})
	}
}

// checkFiles: nobody's programs, no shell, nothing but /tmp and /log that the user may write, nothing that changes users.
func checkFiles(t *testing.T, r recipe, image v1.Image, content map[string]archiveEntry) {
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65534:65534" {
		t.Errorf("user %q", config.Config.User)
	}
	if want := []string{"/" + r.programs[0].path}; !slices.Equal(config.Config.Entrypoint, want) || config.Config.Cmd != nil {
		t.Errorf("entrypoint %q, command %q, want %q", config.Config.Entrypoint, config.Config.Cmd, want)
	}
	var executable, writable []string
	for name, e := range content {
		h := e.header
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			t.Errorf("%s is neither file nor directory", name)
		}
		if h.Mode&0o6000 != 0 {
			t.Errorf("%s changes users: mode %o", name, h.Mode)
		}
		if h.Typeflag == tar.TypeReg && h.Mode&0o111 != 0 {
			executable = append(executable, name)
		}
		if h.Uid == user || h.Gid == user && h.Mode&0o020 != 0 || h.Mode&0o002 != 0 { // owners may change modes
			writable = append(writable, name)
		} else if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", name, h.Uid, h.Gid)
		}
	}
	var want []string
	for _, p := range r.programs {
		want = append(want, p.path)
	}
	slices.Sort(want)
	slices.Sort(executable)
	if !slices.Equal(executable, want) {
		t.Errorf("programs %q, want %q", executable, want)
	}
	slices.Sort(writable)
	if want := []string{"log/", "tmp/"}; !slices.Equal(writable, want) {
		t.Errorf("user %d may write %q, want %q", user, writable, want)
	}
}

// checkPrograms: they need nothing but a kernel, and those that stay tell their version.
func checkPrograms(t *testing.T, r recipe, content map[string]archiveEntry) {
	for _, p := range r.programs {
		f, err := elf.NewFile(bytes.NewReader(content[p.path].content))
		if err != nil {
			t.Fatalf("%s: %v", p.path, err)
		}
		for _, prog := range f.Progs {
			if prog.Type == elf.PT_INTERP || prog.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is not static: %s", p.path, prog.Type)
			}
		}
		if p != hookProgram && !bytes.Contains(content[p.path].content, []byte("v0.0.1-test")) {
			t.Errorf("%s does not know its version", p.path)
		}
		if wd, err := filepath.Abs(".."); err != nil || bytes.Contains(content[p.path].content, []byte(wd)) {
			t.Errorf("%s knows where it was built", p.path)
		}
	}
}

func checkData(t *testing.T, content map[string]archiveEntry) {
	pool, n := x509.NewCertPool(), 0
	for rest := content[certificates].content; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(cert)
	}
	if n < 100 {
		t.Errorf("%d CA certificates", n)
	}
	for _, zone := range []string{"Europe/Berlin", "Asia/Shanghai", "UTC"} {
		if _, err := time.LoadLocationFromTZData(zone, content["usr/share/zoneinfo/"+zone].content); err != nil {
			t.Errorf("%s: %v", zone, err)
		}
	}
}

// checkStatements: the SBOM names every module of every program, the provenance names the image, and the archive carries
// both.
func checkStatements(t *testing.T, r recipe, image, attestation v1.Image, content map[string]archiveEntry, prefix string) {
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(prefix + ".spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var sbom spdxDocument
	if err := json.Unmarshal(raw, &sbom); err != nil {
		t.Fatal(err)
	}
	ids, listed := map[string]bool{sbom.ID: true}, map[string]bool{}
	for _, p := range sbom.Packages {
		if ids[p.ID] {
			t.Errorf("two packages are called %s", p.ID)
		}
		ids[p.ID], listed[p.Name+"@"+p.Version] = true, true
		if p.LicenseDeclared == "NOASSERTION" {
			t.Errorf("the licence of %s is not known", p.Name)
		}
	}
	for _, rel := range sbom.Relationships {
		if !ids[rel.Element] || !ids[rel.Related] {
			t.Errorf("a relationship of what is not there: %v", rel)
		}
	}
	if raw, err = os.ReadFile(prefix + ".cdx.json"); err != nil {
		t.Fatal(err)
	}
	var cdx cdxDocument
	if err := json.Unmarshal(raw, &cdx); err != nil {
		t.Fatal(err)
	}
	refs, inCDX := map[string]bool{cdx.Metadata.Component.Ref: true}, map[string]bool{}
	for _, c := range cdx.Components {
		refs[c.Ref], inCDX[c.Name+"@"+c.Version] = true, true
	}
	for _, d := range cdx.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !refs[ref] {
				t.Errorf("CycloneDX: %s depends on %s, which is not there", d.Ref, ref)
			}
		}
	}
	for _, p := range r.programs {
		info, err := buildinfo.Read(bytes.NewReader(content[p.path].content))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			if !ours(d.Path) && !strings.HasPrefix(d.Path, "./") && !listed[d.Path+"@"+d.Version] {
				t.Errorf("%s@%s of /%s is not in the SBOM", d.Path, d.Version, p.path)
			}
			if key := d.Path + "@" + d.Version; listed[key] && !inCDX[key] {
				t.Errorf("%s is in SPDX and not in CycloneDX", key)
			}
		}
	}
	if raw, err = os.ReadFile(prefix + ".provenance.json"); err != nil {
		t.Fatal(err)
	}
	var s statement
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != digest.Hex || s.PredicateType != provenanceType {
		t.Errorf("a statement of %s about %v, want provenance of %s", s.PredicateType, s.Subject, digest)
	}
	manifest, err := attestation.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Subject == nil || manifest.Subject.Digest != digest {
		t.Errorf("the attestation refers to %v, want %s", manifest.Subject, digest)
	}
	layers, err := attestation.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{spdxPredicate, cyclonedxPredicate, provenanceType} {
		var s statement
		r, err := layers[i].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(r).Decode(&s); err != nil || s.PredicateType != want || manifest.Layers[i].Annotations[predicateLabel] != want {
			t.Errorf("statement %d is of type %s, %v", i, s.PredicateType, err)
		}
		if d, err := partial.Descriptor(layers[i]); err != nil || d.MediaType != inTotoType {
			t.Errorf("statement %d is %v, %v", i, d, err)
		}
		_ = r.Close()
	}
}

func checkLabels(t *testing.T, image v1.Image) {
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"title", "description", "version", "created", "licenses", "source"} {
		label := "org.opencontainers.image." + key
		if v := config.Config.Labels[label]; v == "" || manifest.Annotations[label] != v {
			t.Errorf("%s: label %q, annotation %q", label, v, manifest.Annotations[label])
		}
	}
	if v := config.Config.Labels["org.opencontainers.image.version"]; v != "v0.0.1-test" {
		t.Errorf("version %q", v)
	}
}

// TestReproducible_S_security_41 builds the last commit in two directories; everything that comes out is the same.
func TestReproducible_S_security_41(t *testing.T) {
	if testing.Short() {
		t.Skip("links every program twice")
	}
	root, err := git(t.Context(), "..", "rev-parse", "--show-toplevel")
	if err != nil {
		t.Skipf("no git repository: %v", err)
	}
	dir := t.TempDir()
	outs := []string{filepath.Join(dir, "out-1"), filepath.Join(dir, "out-2")}
	for i, out := range outs {
		clone := filepath.Join(dir, []string{"here", "some/where/else"}[i])
		if _, err := git(t.Context(), root, "clone", "-q", "--shared", root, clone); err != nil {
			t.Fatal(err)
		}
		buildHere(t, clone, out)
	}
	names, err := filepath.Glob(filepath.Join(outs[0], "*.*"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, file := range names {
		first, err := fileSum(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := fileSum(filepath.Join(outs[1], path.Base(file)))
		if err != nil || first != second {
			t.Errorf("%s: %s, and then %s, %v", path.Base(file), first, second, err)
		}
	}
}
