// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	if got := String(); got == "" {
		t.Error("no version")
	}
	version = "v1.9.0"
	defer func() { version = "" }()
	if got := String(); got != "v1.9.0" {
		t.Errorf("version %q, want the linker's", got)
	}
}

func TestFromSettings(t *testing.T) {
	for _, tc := range []struct {
		name, revision, want string
	}{
		{"no commit", "", "dev"},
		{"commit", "0123456789abcdef", "dev-0123456789ab"},
		{"something short", "0123", "dev"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fromSettings([]debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "vcs.revision", Value: tc.revision}}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
