// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// home is where people find the sources and the documentation.
const home = "https://kruise.io/kruise"

// image is an image with all its platforms.
type image struct {
	recipe    recipe
	index     v1.ImageIndex
	platforms []platformImage
}

// platformImage is an image for one platform, with what is said about it.
type platformImage struct {
	platform   v1.Platform
	image      v1.Image
	materials  materials
	subject    []resource
	sbom       []byte // SPDX 2.3
	cyclonedx  []byte // CycloneDX 1.5
	provenance []byte // in-toto statement with SLSA provenance v1
}

// image puts built programs on top of a base layer, for every platform.
func (w workshop) image(r recipe, base v1.Layer, built binaries, licences map[string]string) (*image, error) {
	result := &image{recipe: r}
	labels := w.labels(r)
	for _, platform := range w.platforms {
		files := built[platform.String()]
		layers := []v1.Layer{base}
		for _, p := range r.programs {
			l, err := programLayer(p.path, files[p.path])
			if err != nil {
				return nil, err
			}
			layers = append(layers, l)
		}
		img, err := assemble(layers, v1.ConfigFile{
			OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
			Created: v1.Time{Time: w.source.Time},
			Config: v1.Config{
				Entrypoint: []string{"/" + r.programs[0].path},
				Env:        []string{"PATH=/", "SSL_CERT_FILE=/" + certificates},
				User:       fmt.Sprintf("%d:%d", user, user),
				WorkingDir: "/",
				Labels:     labels,
			},
		})
		if err != nil {
			return nil, err
		}
		p := platformImage{platform: platform, image: mutate.Annotations(img, labels).(v1.Image)}
		if p.materials, err = w.materials(r, platform, files, licences); err != nil {
			return nil, err
		}
		if err := w.attest(r, &p); err != nil {
			return nil, err
		}
		result.platforms = append(result.platforms, p)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range result.platforms {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: p.image, Descriptor: v1.Descriptor{Platform: &p.platform}})
	}
	for _, p := range result.platforms { // after all images: the first manifest is what simple clients take
		addendum, err := p.attestation()
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, addendum)
	}
	result.index = mutate.Annotations(index, labels).(v1.ImageIndex)
	return result, nil
}

// labels are the labels of the OCI image specification; they serve as annotations too.
func (w workshop) labels(r recipe) map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":         r.title,
		"org.opencontainers.image.description":   r.description,
		"org.opencontainers.image.version":       w.source.Version,
		"org.opencontainers.image.created":       w.source.Time.Format(time.RFC3339),
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.vendor":        "Kruise",
		"org.opencontainers.image.source":        home,
		"org.opencontainers.image.documentation": home + "/docs",
	}
	if w.source.Revision != "" {
		labels["org.opencontainers.image.revision"] = w.source.Revision
	}
	return labels
}

// assemble makes an OCI image of layers and a configuration.
func assemble(layers []v1.Layer, config v1.ConfigFile) (v1.Image, error) {
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return nil, err
	}
	made, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.RootFS, config.History = made.RootFS, nil
	return mutate.ConfigFile(img, &config)
}

// String tells digest and sizes.
func (i *image) String() string {
	digest, err := i.index.Digest()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s@%s", i.recipe.name, digest)
	for _, p := range i.platforms {
		size, err := downloadSize(p.image)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, " %s %.1f MB", p.platform, float64(size)/1e6)
	}
	return b.String()
}

// downloadSize is what a node downloads: manifest, configuration and compressed layers, in bytes.
func downloadSize(img v1.Image) (int64, error) {
	m, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	size, err := partial.Size(img)
	if err != nil {
		return 0, err
	}
	size += m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, nil
}
