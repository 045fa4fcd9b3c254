// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"strings"

	"github.com/distribution/reference"
)

// sameImage says whether two image references name the same image: spelled with or without default registry, library
// and tag. References that can't be parsed are compared as they are.
func sameImage(a, b string) bool {
	if a == b {
		return true
	}
	if a == "" || b == "" {
		return false
	}
	na, errA := normalize(a)
	nb, errB := normalize(b)
	return errA == nil && errB == nil && na == nb
}

// normalize returns the full form of an image reference. Of a reference with tag and digest the tag means nothing.
func normalize(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", err
	}
	if digested, ok := named.(reference.Digested); ok {
		return named.Name() + "@" + digested.Digest().String(), nil
	}
	return reference.TagNameOnly(named).String(), nil
}

// digestOf returns the digest in an image reference or an imageID ("docker-pullable://repo@sha256:…", "sha256:…").
func digestOf(image string) string {
	if _, rest, ok := strings.Cut(image, "://"); ok {
		image = rest
	}
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return digest
	}
	if strings.HasPrefix(image, "sha256:") || strings.HasPrefix(image, "sha512:") {
		return image
	}
	return ""
}

// runs says whether a container whose status has this image and imageID runs the image of the spec.
func runs(spec, statusImage, imageID string) bool {
	if sameImage(spec, statusImage) {
		return true
	}
	digest := ""
	if _, d, ok := strings.Cut(spec, "@"); ok {
		digest = d
	}
	return digest != "" && (digest == digestOf(imageID) || digest == digestOf(statusImage))
}
