// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	statementType      = "https://in-toto.io/Statement/v1"
	inTotoType         = "application/vnd.in-toto+json"
	spdxPredicate      = "https://spdx.dev/Document"
	cyclonedxPredicate = "https://cyclonedx.org/bom"
	provenanceType     = "https://slsa.dev/provenance/v1"
	buildType          = home + "/docs/images.md#how-they-are-built"
	predicateLabel     = "in-toto.io/predicate-type"
	referenceLabel     = "vnd.docker.reference.type"
	referenceDigestKey = "vnd.docker.reference.digest"
)

// The parts of in-toto statements v1 and SLSA provenance v1 that are known here.
type (
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     any        `json:"predicate"`
	}
	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	provenance struct {
		BuildDefinition buildDefinition `json:"buildDefinition"`
		RunDetails      runDetails      `json:"runDetails"`
	}
	buildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []resource     `json:"resolvedDependencies"`
	}
	runDetails struct {
		Builder    map[string]string `json:"builder"`
		Byproducts []resource        `json:"byproducts"`
	}
)

// attest makes what is said about an image for one platform: its SBOM, in two formats, and how it was built.
func (w workshop) attest(r recipe, p *platformImage) error {
	digest, err := p.image.Digest()
	if err != nil {
		return err
	}
	if p.sbom, err = w.sbom(r, p.platform, digest, p.materials); err != nil {
		return err
	}
	if p.cyclonedx, err = w.cyclonedx(r, p.platform, digest, p.materials); err != nil {
		return err
	}
	p.subject = []resource{{Name: repository + r.name, Digest: map[string]string{"sha256": digest.Hex}}}
	p.provenance, err = marshal(statement{Type: statementType, Subject: p.subject, PredicateType: provenanceType,
		Predicate: w.provenance(r, p.platform, p.materials, p.sbom)})
	return err
}

// provenance says what an image was built from, and how. It does not say when: the same build says the same.
func (w workshop) provenance(r recipe, platform v1.Platform, m materials, sbom []byte) provenance {
	source := resource{URI: "git+" + home}
	if w.source.Revision != "" {
		source.Digest = map[string]string{"gitCommit": w.source.Revision}
	}
	dependencies := []resource{source, {URI: "pkg:generic/go@" + strings.TrimPrefix(m.Go, "go")}}
	for _, mod := range append(m.Modules, m.Roots) {
		if !ours(mod.Path) {
			dependencies = append(dependencies, resource{URI: mod.purl(), Digest: map[string]string{"dirHash": mod.dirHash()}})
		}
	}
	sum, _, _ := v1.SHA256(strings.NewReader(string(sbom))) // a string can be read
	return provenance{
		BuildDefinition: buildDefinition{
			BuildType: buildType,
			ExternalParameters: map[string]any{
				"source": source, "image": r.name, "platform": platform.String(), "version": w.source.Version,
			},
			InternalParameters: map[string]any{
				"flags": w.flags(), "environment": w.environment(platform), "sourceModified": w.source.Modified, "sourceDateEpoch": w.source.Time.Unix(),
			},
			ResolvedDependencies: dependencies,
		},
		RunDetails: runDetails{
			Builder:    map[string]string{"id": w.builderID},
			Byproducts: []resource{{Name: "SPDX document", Digest: map[string]string{"sha256": sum.Hex}}},
		},
	}
}

// attestation is the manifest that carries what is said about an image inside the image's index, in the form that BuildKit
// gave it and registries and clients know. It refers to its image by subject, too, as OCI 1.1 has it.
func (p platformImage) attestation() (mutate.IndexAddendum, error) {
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	for _, document := range []struct {
		predicate string
		content   []byte
	}{{spdxPredicate, p.sbom}, {cyclonedxPredicate, p.cyclonedx}, {provenanceType, p.provenance}} {
		content := document.content
		if document.predicate != provenanceType { // which is a statement already
			var err error
			if content, err = json.Marshal(statement{Type: statementType, Subject: p.subject, PredicateType: document.predicate,
				Predicate: json.RawMessage(content)}); err != nil {
				return mutate.IndexAddendum{}, err
			}
		}
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(content, inTotoType), MediaType: inTotoType,
			Annotations: map[string]string{predicateLabel: document.predicate}}); err != nil {
			return mutate.IndexAddendum{}, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.History, config.Created = "unknown", "unknown", nil, v1.Time{}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return mutate.IndexAddendum{}, err
	}
	subject, err := partial.Descriptor(p.image)
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	return mutate.IndexAddendum{Add: mutate.Subject(img, *subject).(v1.Image), Descriptor: v1.Descriptor{
		Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
		Annotations: map[string]string{referenceLabel: "attestation-manifest", referenceDigestKey: subject.Digest.String()},
	}}, nil
}
