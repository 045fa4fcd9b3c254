// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package images

import (
	"errors"

	"golang.org/x/sys/unix"
)

// freePercent returns how much of the filesystem of a path ordinary users may still fill.
func freePercent(path string) (float64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 {
		return 0, errors.New("a filesystem without size")
	}
	return 100 * float64(st.Bavail) / float64(st.Blocks), nil
}
