// SPDX-License-Identifier: Apache-2.0

package protectionlog

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

// TestLog_S_platform_27: one JSON line per refusal, in the words of the contract; a path that can't be written is an error.
func TestLog_S_platform_27(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	Use(l)
	t.Cleanup(func() { Use(nil) })
	Record(Entry{"DeletionProtection", "CloneSet", "default", "a", `eve"` + "\n{"})
	Record(Entry{"DeletionProtection", "Namespace", "", "b", "bob"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	Record(Entry{Name: "after the end"})
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Event":"DeletionProtection","Kind":"CloneSet","Namespace":"default","Name":"a","UserAgent":"eve\"\n{"}` + "\n" +
		`{"Event":"DeletionProtection","Kind":"Namespace","Namespace":"","Name":"b","UserAgent":"bob"}` + "\n"
	if string(data) != want {
		t.Errorf("got\n%s", data)
	}
	file := filepath.Join(dir, FileName)
	if _, err := Open(file, logr.Discard()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a directory that is a file: %v", err)
	}
	if l, err := Open("", logr.Discard()); err != nil {
		t.Error(err)
	} else {
		l.Record(Entry{})
	}
}

// TestManyRefusals_S_security_42: 200,000 refusals from 5,000 users leave at most 6 files of at most 300 MiB together,
// mode 0600, and at most 1000 series. Files are made small, so that they rotate.
func TestManyRefusals_S_security_42(t *testing.T) {
	const refusals, users, fileSize = 200_000, 5_000, 1 << 20
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	l.maxSize = fileSize
	c := NewCounter(prometheus.CounterOpts{Name: "workload_deletion_protection"}, "kind_namespace_name", "username")
	for i := range refusals {
		user := fmt.Sprintf("user-%d", i%users)
		l.Record(Entry{"DeletionProtection", "CloneSet", "default", "name", user})
		c.Inc("CloneSet_default_name", user)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1+maxOld || maxOld > 5 || maxSize*(1+maxOld) > 300<<20 {
		t.Errorf("%d files, limits %d and %d", len(files), maxSize, maxOld)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 || info.Size() > fileSize {
			t.Errorf("%s: mode %o, %d bytes", f.Name(), info.Mode().Perm(), info.Size())
		}
		whole(t, filepath.Join(dir, f.Name()))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, m := range families[0].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	if n := len(families[0].GetMetric()); n > 1000 || sum != refusals {
		t.Errorf("%d series, %v refusals", n, sum)
	}
}

// whole: no line was torn by a rotation.
func whole(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if !json.Valid(s.Bytes()) {
			t.Fatalf("%s: %q", path, s.Text())
		}
	}
}

func TestHashedNames(t *testing.T) {
	HashUsernames(true)
	t.Cleanup(func() { HashUsernames(false) })
	a, again, b := userLabel("alice"), userLabel("alice"), userLabel("bob")
	if a != again || a == b || len(a) != 12 || strings.Contains(a, "alice") {
		t.Errorf("%s %s %s", a, again, b)
	}
}
