// SPDX-License-Identifier: Apache-2.0

// Package reference reads image references the one way that admission, the controllers and the node agent share
// (image-pulling 5.1).
package reference

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Image is a reference in normal form: the familiar name and either a tag or a digest.
type Image struct {
	// Name is the name without tag, without docker.io and library: the key of a NodeImage's map.
	Name string
	// Tag is a tag, or a digest such as "sha256:…".
	Tag string
}

// Parse reads a docker-style reference. Without tag and digest the tag is "latest"; with both, the tag is dropped.
func Parse(image string) (Image, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return Image{}, fmt.Errorf("image %q: %w", image, err)
	}
	name := reference.FamiliarName(named)
	// Newer parsers take a first component in upper case for a host; it was and stays an invalid repository.
	if first, _, found := strings.Cut(name, "/"); found && !strings.ContainsAny(first, ".:") && strings.ToLower(first) != first {
		return Image{}, fmt.Errorf("image %q: repository name must be lowercase", image)
	}
	if digested, ok := named.(reference.Digested); ok {
		return Image{Name: name, Tag: digested.Digest().String()}, nil
	}
	if tagged, ok := named.(reference.Tagged); ok {
		return Image{Name: name, Tag: tagged.Tag()}, nil
	}
	return Image{Name: name, Tag: "latest"}, nil
}

// FullName returns a name with the host, as the kubelet looks for credentials with: docker.io/library/nginx for nginx.
// What is no name is returned as it is.
func FullName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return named.Name()
}

// IsDigest says whether Tag is a digest; tags cannot contain a colon.
func (i Image) IsDigest() bool { return strings.Contains(i.Tag, ":") }

// String returns a reference that runtimes understand: name:tag or name@digest.
func (i Image) String() string {
	if i.IsDigest() {
		return i.Name + "@" + i.Tag
	}
	return i.Name + ":" + i.Tag
}
