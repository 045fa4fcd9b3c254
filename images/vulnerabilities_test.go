// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVulnerabilities_S_security_40: what `make verify` runs, and with it CI, fails when code reaches a vulnerability of a
// dependency, and not when it only depends on one. The database is made up.
func TestVulnerabilities_S_security_40(t *testing.T) {
	for _, tc := range []struct {
		name, symbol string
		fails        bool
	}{
		{"reachable", "FromString", true},
		{"not reachable", "GetScaledValueFromIntOrPercent", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range map[string]string{
				"index/db.json":      `{"modified":"2026-01-01T00:00:00Z"}`,
				"index/modules.json": `[{"path":"k8s.io/apimachinery","vulns":[{"id":"GO-2026-9999","modified":"2026-01-01T00:00:00Z"}]}]`,
				"index/vulns.json":   `[{"id":"GO-2026-9999","modified":"2026-01-01T00:00:00Z"}]`,
				"ID/GO-2026-9999.json": `{"schema_version":"1.3.1","id":"GO-2026-9999","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z",
					"summary":"made up","details":"made up","affected":[{"package":{"name":"k8s.io/apimachinery","ecosystem":"Go"},
					"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
					"ecosystem_specific":{"imports":[{"path":"k8s.io/apimachinery/pkg/util/intstr","symbols":["` + tc.symbol + `"]}]}}]}`,
			} {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "../hack/verify-vulnerabilities.sh", "./internal/conversion")
			cmd.Env = append(os.Environ(), "GOVULNDB=file://"+dir)
			out, err := cmd.CombinedOutput()
			if (err != nil) != tc.fails || strings.Contains(string(out), "not run") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
