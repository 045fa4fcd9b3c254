// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// dataLink is the symbolic link whose replacement switches all files at once.
const dataLink = "..data"

// Files is a Store in a directory, for one process (platform 5.3, mode fs).
type Files struct{ Dir string }

// Load reads the files that exist.
func (f Files) Load(context.Context) (map[string][]byte, string, error) {
	data := map[string][]byte{}
	for _, name := range []string{CACert, CAKey, LeafCert, LeafKey, ServerCert, ServerKey} {
		b, err := os.ReadFile(filepath.Join(f.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		data[name] = b
	}
	return data, digest(data), nil
}

// Save writes the files.
func (f Files) Save(ctx context.Context, data map[string][]byte, token string) error {
	_, now, err := f.Load(ctx)
	if err != nil {
		return err
	}
	if now != token {
		return ErrConflict
	}
	return writeFiles(f.Dir, data)
}

func digest(data map[string][]byte) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%s %d ", name, len(data[name]))
		h.Write(data[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// writeFiles replaces the files in dir at one stroke: they are links into a directory that is itself behind a link, as
// kubelets mount Secrets. Directories get mode 0700, files 0600 (security 5.5). A directory that has what is wanted is
// left alone: it may be somebody else's, or read-only.
func writeFiles(dir string, data map[string][]byte) error {
	if unchanged(dir, data) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs x
		return err
	}
	fresh, err := os.MkdirTemp(dir, "..certs-") // mode 0700
	if err != nil {
		return err
	}
	for name, b := range data {
		if err := os.WriteFile(filepath.Join(fresh, name), b, 0o600); err != nil {
			return errors.Join(err, os.RemoveAll(fresh)) // else every try would leave less room for the next
		}
	}
	old, _ := os.Readlink(filepath.Join(dir, dataLink))
	if err := link(filepath.Base(fresh), filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	for name := range data {
		if err := link(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return nil
}

func unchanged(dir string, data map[string][]byte) bool {
	for name, want := range data {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			return false
		}
	}
	return true
}

// link makes or atomically replaces a symbolic link, or whatever has its name.
func link(target, name string) error {
	tmp := name + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
