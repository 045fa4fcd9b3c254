// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/licensecheck"
)

// licenceText is the text of a licence in the classifier's own collection, without its pattern syntax.
func licenceText(t *testing.T, id string) []byte {
	t.Helper()
	for _, l := range licensecheck.BuiltinLicenses() {
		if l.ID == id {
			return []byte(l.LRE)
		}
	}
	t.Fatalf("the classifier does not know %s", id)
	return nil
}

func TestLicences(t *testing.T) {
	apache, err := os.ReadFile("../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		text []byte
		want string // part of the problem
	}{
		{"allowed", apache, ""},
		{"copyleft", licenceText(t, "AGPL-3.0"), "AGPL-3.0"},
		{"allowed and copyleft", append(append([]byte{}, apache...), licenceText(t, "AGPL-3.0")...), "AGPL-3.0"},
		{"unknown", []byte(strings.Repeat("You may use this on Sundays. ", 50)), "known licence"},
		{"half unknown", append(append([]byte{}, apache...), strings.Repeat("You may use this on Sundays. ", 500)...), "known licence"},
		{"nothing", nil, "no licence file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.text != nil {
				if err := os.WriteFile(filepath.Join(dir, "LICENSE.txt"), tc.text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, wrong, err := checkModule("example.com/module", []string{dir})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(wrong, "\n"); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("problems %q, want %q", got, tc.want)
			}
		})
	}
}
