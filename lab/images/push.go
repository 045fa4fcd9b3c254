// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// PushPrograms makes an image of static programs, by their paths in the image ("/manager") to those on this machine, and
// pushes it to the registry at address as name ("repository:tag"). The only program of an image is what it runs.
func PushPrograms(ctx context.Context, address, name string, programs map[string]string) error {
	files := map[string]file{}
	for to, from := range programs {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		files[strings.TrimPrefix(to, "/")] = file{content: content, mode: 0o755}
	}
	// Programs write temporary files, and expect nobody's directories to be there.
	files["tmp/.keep"] = file{mode: 0o644}
	l, err := layer(files)
	if err != nil {
		return err
	}
	r := recipe{layers: []v1.Layer{l}}
	if len(programs) == 1 {
		for to := range programs {
			r.config.Entrypoint = []string{to}
		}
	}
	_, tag, _ := strings.Cut(name, ":")
	image, err := r.build(name, tag)
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	return push(ctx, image, address+"/"+name)
}

// PushArchive pushes an OCI archive (a tar file with an OCI image layout) to the registry at address as name
// ("repository:tag"), with all platforms that it has.
func PushArchive(ctx context.Context, address, target, archive string) error {
	dir, err := os.MkdirTemp("", "lab-image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := extract(archive, dir); err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return fmt.Errorf("%s is no OCI archive: %w", archive, err)
	}
	ref, err := name.ParseReference(address+"/"+target, name.Insecure)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	// The layout's own index usually has one entry: the image, or the index of its platforms.
	options := []remote.Option{remote.WithContext(ctx), remote.WithJobs(1)}
	if len(manifest.Manifests) == 1 {
		only := manifest.Manifests[0]
		if only.MediaType.IsImage() {
			image, err := index.Image(only.Digest)
			if err != nil {
				return err
			}
			return remote.Write(ref, image, options...)
		}
		if index, err = index.ImageIndex(only.Digest); err != nil {
			return err
		}
	}
	return remote.WriteIndex(ref, index, options...)
}

// maxFile bounds a file of an archive.
const maxFile = 1 << 30

// extract unpacks the files of an image layout, which are few and in known places.
func extract(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Clean(h.Name)
		if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		out, err := root.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, io.LimitReader(r, maxFile))
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}
