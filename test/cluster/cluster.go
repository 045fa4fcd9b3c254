// SPDX-License-Identifier: Apache-2.0

// Package cluster runs Kruise on a lab: a control plane with simulated nodes, our CRDs and webhook configurations, and
// kruise-manager as a process beside it. The demo, the benchmark and the integration tests share it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	policyv1alpha1 "kruise.io/kruise/api/policy/v1alpha1"
	policyv1beta1 "kruise.io/kruise/api/policy/v1beta1"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/lab"
)

// Cluster is a running control plane with Kruise's CRDs and webhook configurations installed.
type Cluster struct {
	*lab.Lab
	// Client reads the apiserver directly.
	Client client.WithWatch

	managers []*Manager
	detached bool
}

// Scheme knows the built-in kinds and ours.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, appsv1alpha1.AddToScheme, appsv1beta1.AddToScheme, policyv1alpha1.AddToScheme, policyv1beta1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err) // a programming error: two kinds of one name
		}
	}
	return s
}

// Start starts a lab that ends with this process, and installs Kruise on it. No manager runs yet.
func Start(ctx context.Context, o lab.Options) (*Cluster, error) {
	l, err := lab.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return prepare(ctx, l)
}

// StartDetached starts a lab in dir that outlives this process, and installs Kruise on it.
func StartDetached(ctx context.Context, dir string, nodes int) (*Cluster, error) {
	bin, err := Binary("lab")
	if err != nil {
		return nil, err
	}
	up := exec.CommandContext(ctx, bin, "up", "--fresh", "--dir", dir, "--nodes", strconv.Itoa(nodes))
	up.Stderr = os.Stderr
	if err := up.Run(); err != nil {
		return nil, fmt.Errorf("start the lab in %s: %w", dir, err)
	}
	if err := os.Setenv("KRUISE_LAB_DIR", dir); err != nil {
		return nil, err
	}
	l, err := lab.Use()
	if err != nil {
		return nil, err
	}
	c, err := prepare(ctx, l)
	if c != nil {
		c.detached = true
	}
	return c, err
}

// prepare installs Kruise on l.
func prepare(ctx context.Context, l *lab.Lab) (*Cluster, error) {
	c, err := Of(l)
	if err == nil {
		err = install.Install(ctx, c.Config(), install.Options{WebhookHost: "127.0.0.1"})
	}
	if err != nil {
		return nil, errors.Join(err, l.Stop())
	}
	return c, nil
}

// Of returns l as it is, for tests that install Kruise themselves or find it installed.
func Of(l *lab.Lab) (*Cluster, error) {
	log.SetLogger(klog.Background()) // else controller-runtime complains about the lack of one
	c := &Cluster{Lab: l}
	var err error
	c.Client, err = client.NewWithWatch(c.Config(), client.Options{Scheme: Scheme()})
	return c, err
}

// Config returns a client configuration of an administrator, with this program's name as user agent.
func (c *Cluster) Config() *rest.Config {
	cfg := c.Lab.Config()
	cfg.UserAgent = filepath.Base(os.Args[0])
	return cfg
}

// Stop ends the managers and the lab.
func (c *Cluster) Stop() error {
	var errs []error
	for _, m := range c.managers {
		errs = append(errs, m.Stop())
	}
	if c.detached {
		bin, err := Binary("lab")
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if out, err := exec.Command(bin, "down", "--dir", c.Dir).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("lab down: %w: %s", err, out))
		}
	}
	return errors.Join(append(errs, c.Lab.Stop())...)
}

// Binary returns the path of a program that `make build` puts into bin/, or an error that says how to build it.
func Binary(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("bin/%s: run this inside the repository", name)
		}
		dir = parent
	}
	path := filepath.Join(dir, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing: run `make build`", path)
	}
	return path, nil
}

// Kubectl runs the lab's kubectl as administrator and returns what it prints on both streams.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	bin, err := Binary("lab")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, bin, append([]string{"kubectl", "--dir", c.Dir}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
