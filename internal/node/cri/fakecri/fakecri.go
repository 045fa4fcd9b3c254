// SPDX-License-Identifier: Apache-2.0

// Package fakecri is a container runtime for tests: a CRI v1 server on a UNIX socket that keeps containers and images in
// memory and remembers the calls that change something.
package fakecri

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kruise.io/kruise/internal/node/cri"
)

// Server is the runtime. Its hooks, set before use, decide how calls end; nil means success.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	Name string
	// OnPull and OnStop are called without any lock held.
	OnPull func(context.Context, *runtimeapi.PullImageRequest) error
	OnStop func(*runtimeapi.StopContainerRequest) error
	OnExec func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error)
	// OnList and OnStatus let listing containers, and telling of one, fail.
	OnList   func() error
	OnStatus func(id string) error
	// OnVersion lets asking whether the runtime is there fail, or hang until the caller gives up.
	OnVersion func(context.Context) error
	// Info is what ContainerStatus tells of a container if asked for more, by ID; none for what is missing here.
	Info map[string]string
	// NoCRI makes ImageFsInfo answer Unimplemented, as a runtime without CRI v1 does.
	NoCRI bool

	mu         sync.Mutex
	pods       map[string]types.NamespacedName // by UID
	images     []*runtimeapi.Image
	containers []*runtimeapi.Container
	states     map[string]*runtimeapi.ContainerStatus
	pulls      []*runtimeapi.PullImageRequest
	stops      []string
	execs      []string
	pulling    int
	maxPulling int
}

// Start serves at path until the test ends.
func (s *Server) Start(t *testing.T, path string) *Server {
	t.Helper()
	stop, err := s.Serve(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// Serve serves at path until stop is called, which breaks all connections. What the server remembers stays, so that it
// can be served again, as a runtime that restarts.
func (s *Server) Serve(path string) (stop func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if s.Name == "" {
		s.Name = "containerd"
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, s)
	runtimeapi.RegisterImageServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends by Stop
	}()
	return sync.OnceFunc(func() {
		server.Stop()
		<-done
	}), nil
}

// Connect starts the server in a directory of the test and returns a client.
func (s *Server) Connect(t *testing.T) *cri.Runtime {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.Start(t, filepath.Join(dir, "s"))
	runtimes, err := cri.Connect(context.Background(), []string{"unix://" + filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	return runtimes[0]
}

// AddImage makes an image present.
func (s *Server) AddImage(id string, tags ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images = append(s.images, &runtimeapi.Image{Id: id, RepoTags: tags})
}

// Pulls returns the requests to pull so far, Stops those to stop as "id grace", Execs the commands.
func (s *Server) Pulls() []*runtimeapi.PullImageRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pulls)
}

// Stops returns the calls to stop a container, as "id grace".
func (s *Server) Stops() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stops)
}

// Execs returns the commands that were run, as "id [command]".
func (s *Server) Execs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.execs)
}

// MaxPulling is the greatest number of pulls there were at once.
func (s *Server) MaxPulling() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxPulling
}

// Pod tells whose containers the ones of a UID are that are run from now on. Without it they are those of pod p in
// namespace ns.
func (s *Server) Pod(uid, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pods == nil {
		s.pods = map[string]types.NamespacedName{}
	}
	s.pods[uid] = types.NamespacedName{Namespace: namespace, Name: name}
}

// Run adds a running container of a pod, created now.
func (s *Server) Run(podUID, name, id string, restarts int, annotations map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := map[string]string{cri.AnnotationRestartCount: fmt.Sprint(restarts)}
	for k, v := range annotations {
		a[k] = v
	}
	pod, ok := s.pods[podUID]
	if !ok {
		pod = types.NamespacedName{Namespace: "ns", Name: "p"}
	}
	labels := map[string]string{cri.LabelPodUID: podUID, cri.LabelContainerName: name, cri.LabelPodName: pod.Name, cri.LabelPodNamespace: pod.Namespace}
	now := time.Now().UnixNano()
	s.containers = append(s.containers, &runtimeapi.Container{Id: id, Labels: labels, Annotations: a, CreatedAt: now,
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, State: runtimeapi.ContainerState_CONTAINER_RUNNING, Image: &runtimeapi.ImageSpec{}})
	if s.states == nil {
		s.states = map[string]*runtimeapi.ContainerStatus{}
	}
	s.states[id] = &runtimeapi.ContainerStatus{Id: id, Labels: labels, Annotations: a, CreatedAt: now, StartedAt: now,
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, State: runtimeapi.ContainerState_CONTAINER_RUNNING, Image: &runtimeapi.ImageSpec{Image: "image"}, ImageRef: "ref"}
}

// Remove makes the runtime forget a container.
func (s *Server) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.containers = slices.DeleteFunc(s.containers, func(c *runtimeapi.Container) bool { return c.Id == id })
	delete(s.states, id)
}

// Exit ends a container.
func (s *Server) Exit(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		if c.Id == id {
			c.State = runtimeapi.ContainerState_CONTAINER_EXITED
			s.states[id].State = c.State
			s.states[id].FinishedAt = time.Now().UnixNano()
		}
	}
}

// Version implements the RuntimeService.
func (s *Server) Version(ctx context.Context, _ *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	if s.OnVersion != nil {
		if err := s.OnVersion(ctx); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: s.Name, RuntimeVersion: "1", RuntimeApiVersion: "v1"}, nil
}

// ImageFsInfo implements the ImageService.
func (s *Server) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	if s.NoCRI {
		return nil, status.Error(codes.Unimplemented, "unknown service runtime.v1.ImageService")
	}
	return &runtimeapi.ImageFsInfoResponse{}, nil
}

// ListImages implements the ImageService.
func (s *Server) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &runtimeapi.ListImagesResponse{Images: s.images}, nil
}

// PullImage implements the ImageService.
func (s *Server) PullImage(ctx context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	s.mu.Lock()
	s.pulls = append(s.pulls, r)
	s.pulling++
	s.maxPulling = max(s.maxPulling, s.pulling)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pulling--
	}()
	if s.OnPull != nil {
		if err := s.OnPull(ctx, r); err != nil {
			return nil, err
		}
	}
	s.AddImage("id-of-"+r.Image.Image, r.Image.Image)
	return &runtimeapi.PullImageResponse{ImageRef: "id-of-" + r.Image.Image}, nil
}

// ListContainers implements the RuntimeService.
func (s *Server) ListContainers(_ context.Context, r *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	if s.OnList != nil {
		if err := s.OnList(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	for _, c := range s.containers {
		matches := r.Filter.GetId() == "" || r.Filter.GetId() == c.Id
		matches = matches && (r.Filter.GetState() == nil || r.Filter.GetState().State == c.State)
		for k, v := range r.Filter.GetLabelSelector() {
			matches = matches && c.Labels[k] == v
		}
		if matches {
			copied := &runtimeapi.Container{Id: c.Id, Labels: c.Labels, Annotations: c.Annotations, CreatedAt: c.CreatedAt, State: c.State, Metadata: c.Metadata, Image: c.Image}
			out.Containers = append(out.Containers, copied)
		}
	}
	return out, nil
}

// ContainerStatus implements the RuntimeService.
func (s *Server) ContainerStatus(_ context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	if s.OnStatus != nil {
		if err := s.OnStatus(r.ContainerId); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.states[r.ContainerId]
	if !ok {
		return nil, status.Error(codes.NotFound, r.ContainerId)
	}
	info := map[string]string{}
	if text := s.Info[r.ContainerId]; r.Verbose && text != "" {
		info["info"] = text
	}
	return &runtimeapi.ContainerStatusResponse{Info: info, Status: &runtimeapi.ContainerStatus{Id: st.Id, Labels: st.Labels, Annotations: st.Annotations,
		CreatedAt: st.CreatedAt, StartedAt: st.StartedAt, FinishedAt: st.FinishedAt, State: st.State, Metadata: st.Metadata, Image: st.Image, ImageRef: st.ImageRef}}, nil
}

// StopContainer implements the RuntimeService.
func (s *Server) StopContainer(_ context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	s.mu.Lock()
	s.stops = append(s.stops, fmt.Sprintf("%s %d", r.ContainerId, r.Timeout))
	_, known := s.states[r.ContainerId]
	s.mu.Unlock()
	if !known {
		return nil, status.Errorf(codes.NotFound, "container %s", r.ContainerId)
	}
	if s.OnStop != nil {
		if err := s.OnStop(r); err != nil {
			return nil, err
		}
	}
	s.Exit(r.ContainerId)
	return &runtimeapi.StopContainerResponse{}, nil
}

// ExecSync implements the RuntimeService.
func (s *Server) ExecSync(_ context.Context, r *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	s.mu.Lock()
	s.execs = append(s.execs, fmt.Sprintf("%s %v", r.ContainerId, r.Cmd))
	s.mu.Unlock()
	if s.OnExec != nil {
		return s.OnExec(r)
	}
	return &runtimeapi.ExecSyncResponse{}, nil
}
