// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package cri

import (
	"fmt"
	"os"
	"syscall"
)

// ownerOf tells whose a file is, for people; nothing if that can't be found out.
func ownerOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf(", which is of user %d and group %d, %s", owner.Uid, owner.Gid, info.Mode().Perm())
}
