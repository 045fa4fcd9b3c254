// SPDX-License-Identifier: Apache-2.0

// Package restart stops containers so that the kubelet starts them again: for ContainerRecreateRequests, and for whoever
// else on the node needs it (container-restart 5.3, 5.4).
package restart

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/seconds"
)

// minGrace is the least time in seconds between SIGTERM and SIGKILL.
const minGrace = 2

// Stop is one container to stop.
type Stop struct {
	Runtime cri.Containers
	// ID is the runtime's, without scheme.
	ID string
	// PreStop runs first; nil for none. Ports resolve its port if that is a name.
	PreStop *corev1.LifecycleHandler
	Ports   []corev1.ContainerPort
	// PodIP is where HTTP hooks go; an empty one makes them fail.
	PodIP string
	// AllowHost lets HTTP hooks go to a host they name (--allow-prestop-host).
	AllowHost bool
	// GraceSeconds is the time for hook and SIGTERM together.
	GraceSeconds int64
	// Withdrawn, when it is closed while the hook runs, ends the hook and leaves the container running; nil for never.
	Withdrawn <-chan struct{}
	// OnHookFailure is told why a hook failed; the container is stopped all the same.
	OnHookFailure func(error)
}

// ErrWithdrawn says that nobody wanted the container stopped any more before it got a signal.
var ErrWithdrawn = errors.New("withdrawn")

// Run runs the hook and stops the container (container-restart 5.4.1).
func (s *Stop) Run(ctx context.Context) error {
	grace := min(s.GraceSeconds, math.MaxInt32) // runtimes don't read more as seconds
	if s.PreStop != nil && grace > 0 {
		started := time.Now()
		if err := s.runHook(ctx, time.Duration(grace)*time.Second); err != nil && s.OnHookFailure != nil {
			s.OnHookFailure(err)
		}
		grace -= int64(time.Since(started) / time.Second)
	}
	select {
	case <-s.Withdrawn:
		return ErrWithdrawn
	default:
	}
	err := s.Runtime.StopContainer(ctx, s.ID, max(grace, minGrace))
	if err != nil && status.Code(err) != codes.NotFound { // one that is gone is stopped
		return fmt.Errorf("stopping container %s: %w", s.ID, err)
	}
	return nil
}

func (s *Stop) runHook(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.hook(ctx) }()
	select {
	case err := <-done:
		return err
	case <-s.Withdrawn:
		cancel()
		<-done //nolint:errcheck // what the hook says does not matter any more
		return ErrWithdrawn
	}
}

func (s *Stop) hook(ctx context.Context) error {
	switch h := s.PreStop; {
	case h.Exec != nil:
		return s.exec(ctx, h.Exec.Command)
	case h.HTTPGet != nil:
		return s.get(ctx, h.HTTPGet)
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
		case <-time.After(seconds.Of(h.Sleep.Seconds)):
		}
		return nil
	}
	return nil // tcpSocket does nothing, as in the kubelet
}

// exec runs a command without a limit of the runtime's, but does not wait for it longer than ctx allows.
func (s *Stop) exec(ctx context.Context, command []string) error {
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Runtime.ExecSync(ctx, s.ID, command, 0)
		done <- reasonOf(command, err)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("the hook takes longer than the grace period")
	}
}

// reasonOf says why a command failed as others than its author may read it: neither its arguments nor what it printed,
// which the library's error has, since both may be secret (security 5.11).
func reasonOf(command []string, err error) error {
	program := ""
	if len(command) > 0 {
		program = command[0]
	}
	var exit interface{ ExitStatus() int }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("%.64q exited with %d", program, exit.ExitStatus())
	default:
		return fmt.Errorf("%.64q could not be run: %s", program, status.Code(err))
	}
}

// get sends an HTTP hook.
func (s *Stop) get(ctx context.Context, h *corev1.HTTPGetAction) error {
	req, err := s.request(ctx, h)
	if err != nil {
		return err
	}
	c := &http.Client{
		Transport: &http.Transport{ // no proxy: the hook is the pod's
			DisableKeepAlives: true,
			// A pod's certificate names no IP; the kubelet does not verify it either.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(req)
	var withURL *url.Error
	if errors.As(err, &withURL) { // path and query may be secret
		err = withURL.Err
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 10<<10) // an answer is an answer
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the hook answered %d", resp.StatusCode)
	}
	return nil
}

// request makes that of an HTTP hook. It goes to the pod (security 5.8).
func (s *Stop) request(ctx context.Context, h *corev1.HTTPGetAction) (*http.Request, error) {
	host := s.PodIP
	if h.Host != "" && h.Host != s.PodIP {
		if !s.AllowHost {
			return nil, errors.New("host is not allowed")
		}
		host = h.Host
	}
	if host == "" {
		return nil, errors.New("the pod has no IP")
	}
	port, err := s.port(h.Port)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(h.Path)
	if err != nil {
		target = &url.URL{Path: h.Path} // as it is, like the kubelet
	}
	if target.Scheme != "" || target.Host != "" {
		return nil, errors.New("host is not allowed in the path")
	}
	target.Scheme, target.Host = "http", net.JoinHostPort(host, strconv.Itoa(port))
	if h.Scheme != "" {
		target.Scheme = strings.ToLower(string(h.Scheme))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, errors.New("scheme, port and path are no URL")
	}
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			if !s.AllowHost {
				return nil, errors.New("header Host is not allowed")
			}
			req.Host = header.Value
		}
		req.Header.Add(header.Name, header.Value)
	}
	return req, nil
}

func (s *Stop) port(p intstr.IntOrString) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, port := range s.Ports {
		if port.Name == p.StrVal {
			return int(port.ContainerPort), nil
		}
	}
	if n, err := strconv.Atoi(p.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("no port is called %q", p.StrVal)
}
