// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"os"

	"kruise.io/kruise/internal/node/cri"
)

var errDiskPressure = errors.New("node is under disk pressure")

// roomFor has pulls wait while less than MinFreePercent of the filesystem of images is free. Not being able to tell is
// no reason to wait.
func (p *Puller) roomFor(ctx context.Context, images cri.Images) error {
	if p.MinFreePercent <= 0 {
		return nil
	}
	free, err := p.FreePercent(imageFilesystem(ctx, images))
	if err == nil && free < float64(p.MinFreePercent) {
		return &waiting{errDiskPressure}
	}
	return nil
}

// imageFilesystem returns a path in the filesystem that the runtime keeps images on. A container does not see the
// runtime's directory, but its own root is a layer there, and asking for its room answers for the whole filesystem.
func imageFilesystem(ctx context.Context, images cri.Images) string {
	if info, err := images.ImageFsInfo(ctx); err == nil {
		for _, fs := range info.GetImageFilesystems() {
			path := fs.GetFsId().GetMountpoint()
			if _, err := os.Stat(path); path != "" && err == nil {
				return path
			}
		}
	}
	return "/"
}
