// SPDX-License-Identifier: Apache-2.0

// Package images makes the images that a lab with real nodes runs, from scratch, and publishes them in its registry.
//
// Every image comes in the tags v1, v2 and v3, which differ in one small layer and thus in their digests, and v1-alias,
// which is the same digest as v1. Repositories under private/ hold the same images for pulls with credentials.
package images

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Versions are the tags with digests of their own; Alias is a second name of the first.
var Versions = []string{"v1", "v2", "v3"}

// Alias is a tag with the digest of v1.
const Alias = "v1-alias"

// largeBytes is the size of the layer that the image "large" has for slow pulls; it does not compress.
const largeBytes = 8 << 20

type recipe struct {
	repositories []string
	layers       []v1.Layer
	config       v1.Config
}

// Publish makes all images and pushes them to the registry at address, which needs no TLS. app is the path of the
// lab-app binary.
func Publish(ctx context.Context, address, app string) error {
	recipes, err := recipes(app)
	if err != nil {
		return err
	}
	for _, r := range recipes {
		for _, version := range Versions {
			tags := []string{version}
			if version == Versions[0] {
				tags = append(tags, Alias, "latest")
			}
			for _, repository := range r.repositories {
				image, err := r.build(repository, version)
				if err != nil {
					return fmt.Errorf("image %s:%s: %w", repository, version, err)
				}
				for _, tag := range tags {
					if err := push(ctx, image, address+"/"+repository+":"+tag); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func push(ctx context.Context, image v1.Image, reference string) error {
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, image, remote.WithContext(ctx), remote.WithJobs(1)); err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	return nil
}

func recipes(app string) ([]recipe, error) {
	program, err := os.ReadFile(app)
	if err != nil {
		return nil, fmt.Errorf("lab-app (built by `make bin/lab`): %w", err)
	}
	appLayer, err := layer(map[string]file{"lab-app": {content: program, mode: 0o755}})
	if err != nil {
		return nil, err
	}
	shell, err := busybox()
	if err != nil {
		return nil, err
	}
	noise := make([]byte, largeBytes)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	largeLayer, err := layer(map[string]file{"noise": {content: noise, mode: 0o644}})
	if err != nil {
		return nil, err
	}
	serve := v1.Config{Entrypoint: []string{"/lab-app"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin"}}
	// A shell that is a container's first process ignores SIGTERM unless it is told what to do on it.
	idle := v1.Config{Cmd: []string{"sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait $!; done"}, Env: []string{"PATH=/bin"}}
	return []recipe{
		{repositories: []string{"pause"}, layers: []v1.Layer{appLayer}, config: v1.Config{Entrypoint: []string{"/lab-app", "pause"}}},
		{repositories: []string{"web", "private/web"}, layers: []v1.Layer{appLayer}, config: serve},
		{repositories: []string{"busybox", "library/busybox", "private/busybox"}, layers: []v1.Layer{shell, appLayer}, config: idle},
		{repositories: []string{"large", "private/large"}, layers: []v1.Layer{appLayer, largeLayer}, config: serve},
	}, nil
}

// build makes the image of a repository. Its label gives each repository digests of its own; with a shared one, a
// runtime names the image after any of them.
func (r recipe) build(repository, version string) (v1.Image, error) {
	mark, err := layer(map[string]file{"etc/lab-version": {content: []byte(version + "\n"), mode: 0o644}})
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err = mutate.AppendLayers(image, append(slices.Clone(r.layers), mark)...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config = "linux", "amd64", r.config
	config.Config.Labels = map[string]string{"lab.kruise.io/repository": repository, "lab.kruise.io/version": version}
	return mutate.ConfigFile(image, config)
}

// file is a file or, with a target, a symbolic link.
type file struct {
	content []byte
	mode    int64
	target  string
}

// layer makes a layer of files that is the same every time.
func layer(files map[string]file) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	made := map[string]bool{".": true}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if dir := path.Dir(p); !made[dir] {
			made[dir] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
				return nil, err
			}
		}
		f := files[p]
		header := &tar.Header{Typeflag: tar.TypeReg, Name: p, Mode: f.mode, Size: int64(len(f.content))}
		if f.target != "" {
			header = &tar.Header{Typeflag: tar.TypeSymlink, Name: p, Linkname: f.target, Mode: 0o777}
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(1), tarball.WithCompressedCaching)
}

// busybox makes a layer with a shell and its tools from the machine's static busybox.
func busybox() (v1.Layer, error) {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (install it with hack/install-node-deps.sh)", err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	files := map[string]file{
		"bin/busybox": {content: content, mode: 0o755},
		"etc/passwd":  {content: []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"), mode: 0o644},
		"etc/group":   {content: []byte("root:x:0:\nnogroup:x:65534:\n"), mode: 0o644},
		"tmp/.keep":   {mode: 0o644},
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			files["bin/"+applet] = file{target: "busybox"}
		}
	}
	return layer(files)
}
