// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who programs run as unless the pod says otherwise; the group has the same number.
const user = 65534

// certificates is where Go looks for CA certificates first.
const certificates = "etc/ssl/certs/ca-certificates.crt"

// entry is a file or directory of a layer. It belongs to root unless owner says otherwise.
type entry struct {
	name    string // without leading slash; a directory's ends with one
	mode    int64
	owner   int
	content []byte
}

// base is everything in an image but programs: users, CA certificates, time zones, and the two directories that the user
// may write (platform 2.1).
func base(ctx context.Context) ([]entry, error) {
	zones, err := timeZones(ctx)
	if err != nil {
		return nil, fmt.Errorf("time zones: %w", err)
	}
	return append(zones,
		entry{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")},
		entry{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nnobody:x:65534:\n")},
		entry{name: "etc/nsswitch.conf", mode: 0o644, content: []byte("hosts: files dns\n")},
		entry{name: certificates, mode: 0o644, content: rootCertificates()},
		entry{name: "log/", mode: 0o700, owner: user},
		entry{name: "tmp/", mode: 0o1777},
	), nil
}

// rootCertificates are Mozilla's, as the Go project publishes them, so that they are pinned like any other dependency. A
// root that is trusted for old certificates only is included as distributions do: a file has no way to say that.
func rootCertificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes everything
	}
	return b.Bytes()
}

// timeZones are those that come with Go, at the place where every program looks for them.
func timeZones(ctx context.Context) ([]entry, error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(goroot)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = archive.Close() }()
	var entries []entry
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		entries = append(entries, entry{name: "usr/share/zoneinfo/" + path.Clean(f.Name), mode: 0o644, content: content})
	}
	return entries, nil
}

// programLayer is a layer with one program.
func programLayer(name, file string) (v1.Layer, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return layer([]entry{{name: name, mode: 0o755, content: content}})
}

// layer makes a layer of entries and the directories above them. Its digest depends on nothing else: files are sorted and
// from 1970, so that what did not change between two releases is the same layer.
func layer(entries []entry) (v1.Layer, error) {
	all := map[string]entry{}
	for _, e := range entries {
		for dir := path.Dir(strings.TrimSuffix(e.name, "/")); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir+"/"]; !ok {
				all[dir+"/"] = entry{name: dir + "/", mode: 0o755}
			}
		}
		all[e.name] = e
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, name := range names {
		e := all[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)),
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}
