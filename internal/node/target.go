// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/images"
)

// images returns the service to pull with. On a node with several runtimes that are those in which the kubelet runs
// containers; as long as it runs none, the first. At the start of the process they may have to be waited for
// (node-agent W13).
func (r *runtimes) images(ctx context.Context) (cri.Images, error) {
	connected, err := r.connected()
	if err != nil {
		return nil, err
	}
	if len(connected) == 1 {
		return connected[0].Runtime, nil
	}
	var used everyRuntime
	for _, c := range connected {
		if r.usedByKubelet(ctx, c) {
			used = append(used, c.Runtime)
		}
	}
	switch len(used) {
	case 0:
		return connected[0].Runtime, nil
	case 1:
		return used[0], nil
	}
	return used, nil
}

// connection is a runtime and where it is connected.
type connection struct {
	*cri.Runtime
	slot *slot
}

// connected returns the runtimes there are, in the order of preference. The error says why there is none, or that one has
// not been tried yet.
func (r *runtimes) connected() (list []connection, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.slots {
		if !s.tried {
			return nil, fmt.Errorf("%w: %w", images.ErrNotYet, s.err)
		}
		if s.runtime != nil {
			list = append(list, connection{s.runtime, s})
		}
		errs = append(errs, s.err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no container runtime is connected: %w", errors.Join(errs...))
	}
	return list, nil
}

// usedByKubelet asks a runtime whether the kubelet runs containers there. One that does not answer has not changed since
// it did: what is pulled must not pass it by.
func (r *runtimes) usedByKubelet(ctx context.Context, c connection) bool {
	runs, err := cri.RunsPods(ctx, c)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		c.slot.runsPods = runs
	}
	return c.slot.runsPods
}

// everyRuntime are runtimes that all need the same images.
type everyRuntime []*cri.Runtime

// PullImage implements cri.Images: it succeeds if the image is in all of them.
func (e everyRuntime) PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (ref string, err error) {
	for i, r := range e {
		one, err := r.PullImage(ctx, image, auth, sandbox)
		if err != nil {
			return "", fmt.Errorf("container runtime %s at %s: %w", r.Name, r.Endpoint, err)
		}
		if i == 0 {
			ref = one
		}
	}
	return ref, nil
}

// ImageFsInfo implements cri.Images: the filesystems of all.
func (e everyRuntime) ImageFsInfo(ctx context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	all := &runtimeapi.ImageFsInfoResponse{}
	for _, r := range e {
		info, err := r.ImageFsInfo(ctx)
		if err != nil {
			return nil, err
		}
		all.ImageFilesystems = append(all.ImageFilesystems, info.GetImageFilesystems()...)
		all.ContainerFilesystems = append(all.ContainerFilesystems, info.GetContainerFilesystems()...)
	}
	return all, nil
}

// ListImages implements cri.Images: the images of the first, with those of their names that the others have, too.
func (e everyRuntime) ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) (list []*runtimeapi.Image, err error) {
	for i, r := range e {
		found, err := r.ListImages(ctx, filter)
		if err != nil {
			return nil, fmt.Errorf("container runtime %s at %s: %w", r.Name, r.Endpoint, err)
		}
		if i == 0 {
			list = found
			continue
		}
		known := map[reference.Image]bool{}
		for _, image := range found {
			for _, name := range slices.Concat(image.RepoTags, image.RepoDigests) {
				if parsed, err := reference.Parse(name); err == nil {
					known[parsed] = true
				}
			}
		}
		unknown := func(name string) bool {
			parsed, err := reference.Parse(name)
			return err != nil || !known[parsed]
		}
		for n, image := range list {
			list[n] = &runtimeapi.Image{Id: image.Id,
				RepoTags:    slices.DeleteFunc(slices.Clone(image.RepoTags), unknown),
				RepoDigests: slices.DeleteFunc(slices.Clone(image.RepoDigests), unknown),
			}
		}
	}
	return list, nil
}
