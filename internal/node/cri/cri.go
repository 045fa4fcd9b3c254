// SPDX-License-Identifier: Apache-2.0

// Package cri finds the container runtimes of a node and talks to them, with a closed set of calls: those of Images and
// Containers and no other (node-agent 5.2, 5.7; security 5.8).
package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
)

const (
	// callTimeout is the limit of connecting and of short calls.
	callTimeout = 5 * time.Second
	// probeTimeout is the limit of the call that proves CRI v1.
	probeTimeout = 10 * time.Second
)

// ErrNoSocket says that no runtime's socket exists.
var ErrNoSocket = errors.New("not found container runtime sock")

// Images are the calls about images.
type Images interface {
	ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error)
	PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error)
	ImageFsInfo(ctx context.Context) (*runtimeapi.ImageFsInfoResponse, error)
}

// Containers are the calls about containers.
type Containers interface {
	Version(ctx context.Context, apiVersion string) (*runtimeapi.VersionResponse, error)
	ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error)
	ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error)
	StopContainer(ctx context.Context, id string, graceSeconds int64) error
	ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (stdout, stderr []byte, err error)
	PodSandboxStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.PodSandboxStatusResponse, error)
}

// Runtime is a connected container runtime. It reconnects by itself when its socket comes back.
type Runtime struct {
	// Name is what the runtime calls itself, the scheme of its container IDs: containerd, cri-o, docker.
	Name     string
	Endpoint string
	Images
	Containers
}

// candidates are the sockets below the mounted directory, in the order of preference (node-agent 5.2).
var candidates = []string{
	"containerd.sock", "containerd/containerd.sock", "crio.sock", "crio/crio.sock", "cri-dockerd.sock", "cri-dockerd/cri-dockerd.sock",
	"k3s/containerd/containerd.sock",
}

// windowsEndpoint is the only one there is on Windows (node-agent 5.6).
const windowsEndpoint = "npipe://./pipe/containerd-containerd"

// Sockets returns the endpoints to try: dir/file alone if a file is given, else all known ones that exist. The error
// names what was looked for.
func Sockets(dir, file string) ([]string, error) { return sockets(runtime.GOOS, dir, file) }

func sockets(system, dir, file string) ([]string, error) {
	if system == "windows" {
		return []string{windowsEndpoint}, nil
	}
	names := candidates
	if file != "" {
		names = []string{file}
	}
	var endpoints, tried []string
	hint := ""
	for _, name := range names {
		path := filepath.Join(dir, name)
		tried = append(tried, path)
		switch _, err := os.Stat(path); {
		case err == nil:
			endpoints = append(endpoints, "unix://"+path)
		case errors.Is(err, fs.ErrPermission):
			hint = fmt.Sprintf("; user %d and group %d may not look for %s", os.Geteuid(), os.Getegid(), path)
		}
	}
	if len(endpoints) == 0 {
		if _, err := os.Stat(filepath.Join(dir, "docker.sock")); err == nil {
			hint = "; there is a docker.sock: docker needs cri-dockerd to serve CRI"
		}
		return nil, fmt.Errorf("%w: none of %s exists%s", ErrNoSocket, strings.Join(tried, ", "), hint)
	}
	return endpoints, nil
}

// Connect connects to the endpoints and keeps those that serve CRI v1, in order. With none left the error says why each
// one was dropped; dropped has the same for logs otherwise.
func Connect(ctx context.Context, endpoints []string) (runtimes []*Runtime, dropped error) {
	var errs []error
	for _, endpoint := range endpoints {
		r, err := connect(ctx, endpoint)
		if err != nil {
			errs = append(errs, unusable(endpoint, err))
			continue
		}
		runtimes = append(runtimes, r)
	}
	return runtimes, errors.Join(errs...)
}

// unusable says why an endpoint can't be used. What the agent may not open is told apart from what is no runtime.
func unusable(endpoint string, err error) error {
	if path, ok := strings.CutPrefix(endpoint, "unix://"); ok {
		c, dialErr := net.DialTimeout("unix", path, time.Second)
		if dialErr == nil {
			_ = c.Close()
		}
		if errors.Is(dialErr, fs.ErrPermission) {
			return fmt.Errorf("container runtime at %s: user %d with group %d may not use the socket%s", endpoint, os.Geteuid(), os.Getegid(), ownerOf(path))
		}
	}
	return fmt.Errorf("container runtime at %s does not serve CRI v1: %w", endpoint, err)
}

func connect(ctx context.Context, endpoint string) (r *Runtime, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var opened []any
	defer func() {
		if err == nil {
			return
		}
		for _, service := range opened { // tried again and again, so nothing may be left behind
			if c, ok := service.(io.Closer); ok {
				_ = c.Close()
			}
		}
	}()
	images, err := remote.NewRemoteImageServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(probeTimeout).Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("image service: %w", err)
	}
	opened = append(opened, images)
	containers, err := remote.NewRemoteRuntimeServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(callTimeout).Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("runtime service: %w", err)
	}
	opened = append(opened, containers)
	calls := &measured{images: images, containers: containers}
	if _, err := calls.ImageFsInfo(ctx); err != nil {
		return nil, fmt.Errorf("ImageFsInfo: %w", err)
	}
	if _, err := calls.ListImages(ctx, nil); err != nil {
		return nil, fmt.Errorf("ListImages: %w", err)
	}
	version, err := calls.Version(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	return &Runtime{Name: version.RuntimeName, Endpoint: endpoint, Images: calls, Containers: calls}, nil
}

// Ping says whether the runtime answers within 5 seconds.
func (r *Runtime) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := r.Version(ctx, ""); err != nil {
		return fmt.Errorf("container runtime %s at %s does not answer: %w", r.Name, r.Endpoint, err)
	}
	return nil
}

// Find returns the runtime of a pod, one of whose containers has an ID such as "containerd://…". Of several runtimes that
// call themselves so, as the host's containerd and that of k3s do, it is the one that knows containers of the pod; if
// none does, one that can't tell, and else the first (node-agent W13).
func Find(ctx context.Context, runtimes []*Runtime, containerID, podUID string) (*Runtime, error) {
	scheme, bare, ok := strings.Cut(containerID, "://")
	if !ok || bare == "" {
		return nil, fmt.Errorf("%q is no container ID", containerID)
	}
	var named []*Runtime
	for _, r := range runtimes {
		if r.Name == scheme {
			named = append(named, r)
		}
	}
	switch len(named) {
	case 0:
		return nil, fmt.Errorf("no connected runtime is called %q", scheme)
	case 1:
		return named[0], nil
	}
	best := named[0]
	for _, r := range named {
		switch containers, err := OfPod(ctx, r, podUID); {
		case err != nil:
			best = r
		case len(containers) > 0:
			return r, nil
		}
	}
	return best, nil
}

// Labels and annotations that the kubelet puts on containers (node-agent 5.7).
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"

	AnnotationHash                = "io.kubernetes.container.hash"
	AnnotationRestartCount        = "io.kubernetes.container.restartCount"
	AnnotationPreStop             = "io.kubernetes.container.preStopHandler"
	AnnotationPorts               = "io.kubernetes.container.ports"
	AnnotationDeletionGracePeriod = "io.kubernetes.pod.deletionGracePeriod"
	AnnotationGracePeriod         = "io.kubernetes.pod.terminationGracePeriod"
)

// RunsPods says whether the kubelet runs containers here.
func RunsPods(ctx context.Context, r Containers) (bool, error) {
	list, err := r.ListContainers(ctx, &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}})
	if err != nil {
		return false, fmt.Errorf("listing running containers: %w", err)
	}
	return slices.ContainsFunc(list, func(c *runtimeapi.Container) bool { return c.Labels[LabelPodUID] != "" }), nil
}

// OfPod returns the newest container of each name that the runtime knows of a pod.
func OfPod(ctx context.Context, r Containers, podUID string) (map[string]*runtimeapi.Container, error) {
	list, err := r.ListContainers(ctx, &runtimeapi.ContainerFilter{LabelSelector: map[string]string{LabelPodUID: podUID}})
	if err != nil {
		return nil, fmt.Errorf("listing the containers of pod %s: %w", podUID, err)
	}
	slices.SortFunc(list, func(a, b *runtimeapi.Container) int { return int(min(max(a.CreatedAt-b.CreatedAt, -1), 1)) })
	newest := make(map[string]*runtimeapi.Container, len(list))
	for _, c := range list {
		newest[c.Labels[LabelContainerName]] = c
	}
	return newest, nil
}
