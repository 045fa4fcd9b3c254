// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFilesOfOthers_S_platform_8: what is complete is only read, so the directory may be read-only.
func TestFilesOfOthers_S_platform_8(t *testing.T) {
	c := &cluster{now: start}
	dir := filepath.Join(t.TempDir(), "certs")
	syncOnce(t, newKeeper(c, Files{dir}))
	if err := os.Chmod(dir, 0o555); err != nil { //nolint:gosec // as mounted
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) }) //nolint:gosec // for its removal
	k := newKeeper(c, Files{dir})
	k.Dir = dir
	syncOnce(t, k)
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o555 {
		t.Errorf("the directory was touched: %v %v", st.Mode(), err)
	}
}
