// SPDX-License-Identifier: Apache-2.0

package images

import "golang.org/x/sys/windows"

// freePercent returns how much of the volume of a path is free.
func freePercent(path string) (float64, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, nil); err != nil {
		return 0, err
	}
	return 100 * float64(free) / float64(max(total, 1)), nil
}
