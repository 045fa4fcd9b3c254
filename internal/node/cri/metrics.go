// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Metrics of the process (node-agent W14). Several agents in one process (tests) share them.
var (
	callSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "kruise_daemon_cri_duration_seconds", Help: "How long calls of the container runtime took.",
		Buckets: []float64{.005, .01, .05, .1, .5, 1, 5, 30, 120, 600},
	}, []string{"call"})
	callErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kruise_daemon_cri_errors_total", Help: "Calls of the container runtime that failed, by gRPC code.",
	}, []string{"call", "code"})
)

func init() { ctrlmetrics.Registry.MustRegister(callSeconds, callErrors) }

// measured counts the calls of a runtime. It keeps the client library from logging: errors of registries may name
// credentials, and output of commands may hold them (security 5.11); callers report errors themselves.
type measured struct {
	images     Images
	containers Containers
}

func observe(call string, began time.Time, err *error) {
	callSeconds.WithLabelValues(call).Observe(time.Since(began).Seconds())
	if *err != nil {
		callErrors.WithLabelValues(call, code(*err).String()).Inc()
	}
}

func code(err error) codes.Code {
	if c := status.FromContextError(err).Code(); c != codes.Unknown {
		return c
	}
	return status.Code(err)
}

func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

// ListImages implements Images.
func (m *measured) ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) (list []*runtimeapi.Image, err error) {
	defer observe("ListImages", time.Now(), &err)
	return m.images.ListImages(quiet(ctx), filter)
}

// PullImage implements Images.
func (m *measured) PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (ref string, err error) {
	defer observe("PullImage", time.Now(), &err)
	return m.images.PullImage(quiet(ctx), image, auth, sandbox)
}

// ImageFsInfo implements Images.
func (m *measured) ImageFsInfo(ctx context.Context) (info *runtimeapi.ImageFsInfoResponse, err error) {
	defer observe("ImageFsInfo", time.Now(), &err)
	return m.images.ImageFsInfo(quiet(ctx))
}

// Version implements Containers.
func (m *measured) Version(ctx context.Context, apiVersion string) (v *runtimeapi.VersionResponse, err error) {
	defer observe("Version", time.Now(), &err)
	return m.containers.Version(quiet(ctx), apiVersion)
}

// ListContainers implements Containers.
func (m *measured) ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) (list []*runtimeapi.Container, err error) {
	defer observe("ListContainers", time.Now(), &err)
	return m.containers.ListContainers(quiet(ctx), filter)
}

// ContainerStatus implements Containers.
func (m *measured) ContainerStatus(ctx context.Context, id string, verbose bool) (st *runtimeapi.ContainerStatusResponse, err error) {
	defer observe("ContainerStatus", time.Now(), &err)
	return m.containers.ContainerStatus(quiet(ctx), id, verbose)
}

// StopContainer implements Containers.
func (m *measured) StopContainer(ctx context.Context, id string, graceSeconds int64) (err error) {
	defer observe("StopContainer", time.Now(), &err)
	return m.containers.StopContainer(quiet(ctx), id, graceSeconds)
}

// ExecSync implements Containers.
func (m *measured) ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	defer observe("ExecSync", time.Now(), &err)
	return m.containers.ExecSync(quiet(ctx), id, command, timeout)
}

// PodSandboxStatus implements Containers.
func (m *measured) PodSandboxStatus(ctx context.Context, id string, verbose bool) (st *runtimeapi.PodSandboxStatusResponse, err error) {
	defer observe("PodSandboxStatus", time.Now(), &err)
	return m.containers.PodSandboxStatus(quiet(ctx), id, verbose)
}
