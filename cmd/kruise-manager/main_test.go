// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be kruise-manager.
func TestMain(m *testing.M) {
	if os.Getenv("BE_KRUISE_MANAGER") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// execute runs kruise-manager with arguments and returns its exit code and what it printed.
func execute(t *testing.T, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"--protection-log-path="}, args...)...)
	cmd.Env = append(os.Environ(), "BE_KRUISE_MANAGER=1", "KUBECONFIG=", "WEBHOOK_HOST=127.0.0.1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// kubeconfig names an apiserver at an address.
func kubeconfig(t *testing.T, addr string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	content := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],` +
		`"clusters":[{"name":"c","cluster":{"server":"https://` + addr + `"}}],"users":[{"name":"u","user":{}}]}`
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadInput(t *testing.T) {
	for _, tc := range []struct {
		name, arg, want string
	}{
		{"S_platform_15 unknown flag", "--no-such-flag", "no-such-flag"},
		{"S_platform_15 unknown gate", "--feature-gates=NoSuchGate=true", "NoSuchGate"},
		{"S_platform_25 ttl out of range", "--default-ttlseconds-for-always-nodeimage=2678401", "2678401"},
		{"unknown log format", "--logging-format=xml", "xml"},
		{"no kubeconfig", "--kubeconfig=/no/such/file", "/no/such/file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out := execute(t, tc.arg)
			if code != 1 || !strings.Contains(out, tc.want) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit code %d, printed:\n%s", code, out)
			}
		})
	}
}

// TestProtectionLogPath_S_platform_27: a path that can't be written ends the process, before it looks for an apiserver.
func TestProtectionLogPath_S_platform_27(t *testing.T) {
	code, out := execute(t, "--protection-log-path=/dev/null/log", "--kubeconfig", kubeconfig(t, "127.0.0.1:1"))
	if code != 1 || !strings.Contains(out, "protection log: mkdir /dev/null") || strings.Count(out, "\n") != 1 {
		t.Errorf("exit code %d, printed:\n%s", code, out)
	}
}

// TestOneWarning: everything that is accepted but not yet effective is told in one line.
func TestOneWarning(t *testing.T) {
	_, out := execute(t, "--sidecarset-workers=5", "--ws-enabled-versioned-status=deployment", "--feature-gates=SidecarTerminator=true,PodWebhook=true",
		"--kubeconfig", kubeconfig(t, "127.0.0.1:1"))
	first, _, _ := strings.Cut(out, "\n")
	if !strings.HasPrefix(first, "W") || !strings.Contains(first, "--sidecarset-workers, --ws-enabled-versioned-status, SidecarTerminator") || strings.Count(out, "not yet effective") != 1 {
		t.Errorf("printed:\n%s", out)
	}
}

func TestHelp(t *testing.T) {
	code, out := execute(t, "--help")
	if code != 0 || !strings.Contains(out, "--cloneset-workers") || !strings.Contains(out, "PodWebhook=true|false") {
		t.Errorf("exit code %d, printed:\n%s", code, out)
	}
}

// TestUnreachable: one clear line, a code that is not 0, and soon, whether connections are refused or swallowed.
func TestUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // after the parallel subtests
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := refusing.Close(); err != nil {
		t.Fatal(err)
	}
	for name, addr := range map[string]string{"refuses": refusing.Addr().String(), "is silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			code, out := execute(t, "--kubeconfig", kubeconfig(t, addr))
			if code != 1 || !strings.Contains(out, addr) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit code %d, printed:\n%s", code, out)
			}
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

// TestJSON_S_platform_26: with --logging-format=json each line is an object with ts, caller, msg and, unless it is an
// error, v.
func TestJSON_S_platform_26(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, out := execute(t, "--logging-format=json", "--sidecarset-workers=5", "--kubeconfig", kubeconfig(t, l.Addr().String()))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 2 {
		t.Fatalf("printed:\n%s", out)
	}
	for _, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		keys := []string{"ts", "caller", "msg", "v"}
		if m["err"] != nil {
			keys = keys[:3]
		}
		for _, k := range keys {
			if m[k] == nil {
				t.Errorf("%q lacks %s", line, k)
			}
		}
	}
}
