// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// repository is what the archives call the images (platform 2.1); charts and mirrors may call them differently.
const repository = "openkruise/"

// write makes <dir>/<name>.tar, an OCI archive whose only image is named for `ctr images import`, and for each platform
// <name>-<architecture>.spdx.json, .cdx.json and .provenance.json.
func (i *image) write(dir, tag string) error {
	temporary, err := os.MkdirTemp(dir, ".layout-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	l, err := layout.Write(temporary, empty.Index)
	if err != nil {
		return err
	}
	name := repository + i.recipe.name + ":" + tag
	if err := l.AppendIndex(i.index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag,
		"io.containerd.image.name":          "docker.io/" + name,
	})); err != nil {
		return err
	}
	if err := pack(temporary, filepath.Join(dir, i.recipe.name+".tar")); err != nil {
		return err
	}
	for _, p := range i.platforms {
		prefix := filepath.Join(dir, i.recipe.name+"-"+p.platform.Architecture)
		for suffix, content := range map[string][]byte{".spdx.json": p.sbom, ".cdx.json": p.cyclonedx, ".provenance.json": p.provenance} {
			if err := os.WriteFile(prefix+suffix, content, 0o644); err != nil { //nolint:gosec // G306: they are published
				return err
			}
		}
	}
	return nil
}

// pack writes the files below dir into an archive, the same ones always into the same archive.
func pack(dir, archive string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(archive), ".archive-")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), archive)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	w := tar.NewWriter(f)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	walk := func(path string, d fs.DirEntry, err error) error { // in lexical order
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		in, err := root.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return err
	}
	if err := filepath.WalkDir(dir, walk); err != nil {
		return err
	}
	return w.Close()
}
