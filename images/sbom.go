// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The parts of SPDX 2.3 that say what is in an image.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID               string         `json:"SPDXID"`
		Name             string         `json:"name"`
		Version          string         `json:"versionInfo,omitempty"`
		Purpose          string         `json:"primaryPackagePurpose,omitempty"`
		DownloadLocation string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		LicenseConcluded string         `json:"licenseConcluded"`
		LicenseDeclared  string         `json:"licenseDeclared"`
		CopyrightText    string         `json:"copyrightText"`
		Comment          string         `json:"comment,omitempty"`
		Checksums        []spdxChecksum `json:"checksums,omitempty"`
		ExternalRefs     []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
)

// notInID are the characters that SPDX identifiers can't have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func spdxID(kind, name string) string {
	return "SPDXRef-" + kind + "-" + notInID.ReplaceAllString(name, "-")
}

// sbom lists what an image for one platform contains as an SPDX 2.3 document.
func (w workshop) sbom(r recipe, platform v1.Platform, digest v1.Hash, m materials) ([]byte, error) {
	image := spdxID("Image", r.name)
	d := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name:      fmt.Sprintf("%s-%s-%s", r.name, w.source.Version, platform.Architecture),
		Namespace: home + "/spdx/" + r.name + "/" + digest.Hex,
		Creation:  spdxCreation{Created: w.source.Time.Format(time.RFC3339), Creators: []string{"Organization: Kruise", "Tool: kruise-images"}},
	}
	relate := func(element, kind, related string) {
		d.Relationships = append(d.Relationships, spdxRelationship{element, kind, related})
	}
	relate(d.ID, "DESCRIBES", image)
	d.add(spdxPackage{ID: image, Name: repository + r.name, Version: w.source.Version, Purpose: "CONTAINER", LicenseDeclared: "Apache-2.0",
		Checksums:    []spdxChecksum{{"SHA256", digest.Hex}},
		ExternalRefs: purlRef(imagePurl(r, platform, digest))})
	stdlib := stdlibModule(m)
	for _, mod := range append(m.Modules, stdlib, m.Roots) {
		d.add(spdxModule(mod))
	}
	relate(image, "CONTAINS", moduleID(m.Roots.key()))
	relate(image, "CONTAINS", moduleID(stdlib.key())) // its time zones
	for _, p := range m.Programs {
		id := spdxID("Program", p.Path[1:])
		d.add(spdxPackage{ID: id, Name: p.Path, Version: w.source.Version, Purpose: "APPLICATION", LicenseDeclared: "Apache-2.0",
			Comment: "Built from " + p.Package, Checksums: []spdxChecksum{{"SHA256", p.SHA256}}})
		relate(image, "CONTAINS", id)
		relate(id, "STATIC_LINK", moduleID(stdlib.key()))
		for _, key := range p.Modules {
			relate(id, "STATIC_LINK", moduleID(key))
		}
	}
	return marshal(d)
}

func (d *spdxDocument) add(p spdxPackage) {
	p.DownloadLocation, p.CopyrightText = "NOASSERTION", "NOASSERTION"
	if p.LicenseDeclared == "" {
		p.LicenseDeclared = "NOASSERTION"
	}
	p.LicenseConcluded = p.LicenseDeclared
	d.Packages = append(d.Packages, p)
}

func moduleID(key string) string { return spdxID("Module", key) }

func spdxModule(m module) spdxPackage {
	p := spdxPackage{ID: moduleID(m.key()), Name: m.Path, Version: m.Version, Purpose: "LIBRARY", LicenseDeclared: m.Licence, ExternalRefs: purlRef(m.purl())}
	if m.Sum != "" {
		p.Comment = "Sum of the module's files in go.sum: " + m.Sum
	}
	return p
}

func purlRef(purl string) []spdxRef { return []spdxRef{{"PACKAGE-MANAGER", "purl", purl}} }

// marshal writes JSON for people, as programs read it too.
func marshal(v any) ([]byte, error) {
	out, err := json.MarshalIndent(v, "", " ")
	return append(out, '\n'), err
}
