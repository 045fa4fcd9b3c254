// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The parts of CycloneDX 1.5 that say what is in an image.
type (
	cdxDocument struct {
		Format       string          `json:"bomFormat"`
		SpecVersion  string          `json:"specVersion"`
		SerialNumber string          `json:"serialNumber"`
		Version      int             `json:"version"`
		Metadata     cdxMetadata     `json:"metadata"`
		Components   []cdxComponent  `json:"components"`
		Dependencies []cdxDependency `json:"dependencies"`
	}
	cdxMetadata struct {
		Timestamp string       `json:"timestamp"`
		Component cdxComponent `json:"component"`
	}
	cdxComponent struct {
		Type     string       `json:"type"`
		Ref      string       `json:"bom-ref"`
		Name     string       `json:"name"`
		Version  string       `json:"version,omitempty"`
		Purl     string       `json:"purl,omitempty"`
		Hashes   []cdxHash    `json:"hashes,omitempty"`
		Licenses []cdxLicense `json:"licenses,omitempty"`
	}
	cdxHash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	cdxLicense struct {
		Expression string `json:"expression"`
	}
	cdxDependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// cyclonedx lists what an image for one platform contains as a CycloneDX 1.5 document; it says what sbom says.
func (w workshop) cyclonedx(r recipe, platform v1.Platform, digest v1.Hash, m materials) ([]byte, error) {
	h := digest.Hex
	image := cdxComponent{Type: "container", Ref: imagePurl(r, platform, digest), Name: repository + r.name, Version: w.source.Version,
		Purl: imagePurl(r, platform, digest), Hashes: []cdxHash{{"SHA-256", h}}, Licenses: []cdxLicense{{"Apache-2.0"}}}
	d := cdxDocument{Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		// The same image has the same number: a UUID of version 8 made of its digest.
		SerialNumber: fmt.Sprintf("urn:uuid:%s-%s-8%s-8%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:32]),
		Metadata:     cdxMetadata{Timestamp: w.source.Time.Format(time.RFC3339), Component: image}}
	stdlib := stdlibModule(m)
	contents := cdxDependency{Ref: image.Ref, DependsOn: []string{m.Roots.purl(), stdlib.purl()}}
	refs := map[string]string{} // of modules by key
	for _, mod := range append(m.Modules, stdlib, m.Roots) {
		c := cdxComponent{Type: "library", Ref: mod.purl(), Name: mod.Path, Version: mod.Version, Purl: mod.purl()}
		if mod.Licence != "" {
			c.Licenses = []cdxLicense{{mod.Licence}}
		}
		refs[mod.key()] = c.Ref
		d.Components = append(d.Components, c)
	}
	for _, p := range m.Programs {
		d.Components = append(d.Components, cdxComponent{Type: "application", Ref: p.Path, Name: strings.TrimPrefix(p.Path, "/"), Version: w.source.Version,
			Hashes: []cdxHash{{"SHA-256", p.SHA256}}, Licenses: []cdxLicense{{"Apache-2.0"}}})
		contents.DependsOn = append(contents.DependsOn, p.Path)
		uses := cdxDependency{Ref: p.Path, DependsOn: []string{stdlib.purl()}}
		for _, key := range p.Modules {
			uses.DependsOn = append(uses.DependsOn, refs[key])
		}
		d.Dependencies = append(d.Dependencies, uses)
	}
	d.Dependencies = append(d.Dependencies, contents)
	return marshal(d)
}

// imagePurl is the package URL of an image for one platform.
func imagePurl(r recipe, platform v1.Platform, digest v1.Hash) string {
	return fmt.Sprintf("pkg:oci/%s@sha256%%3A%s?arch=%s", r.name, digest.Hex, platform.Architecture)
}

// stdlibModule is Go's library as a module.
func stdlibModule(m materials) module {
	return module{Path: "stdlib", Version: strings.TrimPrefix(m.Go, "go"), Licence: "BSD-3-Clause"}
}
