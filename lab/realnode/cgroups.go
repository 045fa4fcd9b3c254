// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies lists the mounted cgroup hierarchies: one with cgroup v2, one per controller with v1.
func hierarchies() ([]string, error) {
	if unified() {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		path := filepath.Join(cgroupRoot, e.Name())
		// Combined controllers have symbolic links beside them.
		if e.IsDir() && e.Type()&fs.ModeSymlink == 0 {
			found = append(found, path)
		}
	}
	return found, nil
}

// unified reports whether the machine has cgroup v2 only.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// MakeCgroup makes a cgroup in every hierarchy. Kubelets insist that their root exists.
func MakeCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range roots {
		path := filepath.Join(h, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		if unified() {
			if err := delegate(h, name); err != nil {
				return err
			}
		}
		if filepath.Base(h) != "cpuset" {
			continue
		}
		// In cgroup v1 a cpuset starts empty, and nothing can enter it.
		for dir := filepath.Join(h, filepath.Dir(name)); ; dir = path {
			if err := inheritCPUSet(dir); err != nil {
				return err
			}
			if dir == path {
				break
			}
		}
	}
	return nil
}

// delegate hands all controllers down to a cgroup, as cgroup v2 wants it at every step of the way.
func delegate(root, name string) error {
	controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var all []string
	for c := range strings.FieldsSeq(string(controllers)) {
		all = append(all, "+"+c)
	}
	for _, dir := range []string{root, filepath.Join(root, filepath.Dir(name)), filepath.Join(root, name)} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(all, " ")), 0o600); err != nil {
			return fmt.Errorf("cgroup controllers: %w", err)
		}
	}
	return nil
}

func inheritCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), above, 0o600); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// RemoveCgroup removes a cgroup and all below it in every hierarchy. The kernel may still be at work on the end of the
// processes in it, so it tries for a few seconds.
func RemoveCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range roots {
		path := filepath.Join(h, name)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			err := removeTree(path)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				errs = append(errs, err)
				break
			}
		}
	}
	return errors.Join(errs...)
}

func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup %s: %w", path, err)
	}
	return nil
}
