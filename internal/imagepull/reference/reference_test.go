// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]Image{
		"nginx":                            {"nginx", "latest"},
		"docker.io/library/nginx":          {"nginx", "latest"},
		"docker.io/foo/bar:1":              {"foo/bar", "1"},
		"docker.io/library/ubuntu:20.04":   {"ubuntu", "20.04"},
		"reg:5000/a/b@" + digest:           {"reg:5000/a/b", digest},
		"reg:5000/a/b:v1@" + digest:        {"reg:5000/a/b", digest},
		"reg.example.com/a/b:v1":           {"reg.example.com/a/b", "v1"},
		"index.docker.io/library/redis:7":  {"redis", "7"},
		"localhost/busybox@" + digest:      {"localhost/busybox", digest},
		"registry.k8s.io/pause:3.10.1-foo": {"registry.k8s.io/pause", "3.10.1-foo"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "UPPER/x", "a b", ":tag", "x@sha256:12"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", in, got)
		}
	}
}

func TestFullName(t *testing.T) {
	for in, want := range map[string]string{"nginx": "docker.io/library/nginx", "foo/bar": "docker.io/foo/bar", "reg.example.com:5000/a": "reg.example.com:5000/a", "": ""} {
		if got := FullName(in); got != want {
			t.Errorf("FullName(%q) = %q, want %q", in, got, want)
		}
	}
}

// What Parse accepts, String writes so that Parse reads the same again.
func TestNormalFormIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringMatching(`(([a-z0-9]{1,8}\.)?[a-z0-9]{1,8}(:[0-9]{2,4})?/)?[a-z0-9]{1,8}(/[a-z0-9]{1,8})?(:[a-zA-Z0-9_.]{1,10})?`).Draw(t, "image")
		first, err := Parse(in)
		if err != nil {
			return
		}
		if again, err := Parse(first.String()); err != nil || again != first {
			t.Fatalf("%q: %v becomes %v, %v", in, first, again, err)
		}
	})
}
