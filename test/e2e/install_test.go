// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
)

const (
	systemNamespace = "kruise-system"
	configNamespace = "kruise-daemon-config"
)

// release is the name of the Helm release that install makes.
const release = "kruise"

// install puts Kruise into the cluster with its Helm chart unless it is there, and returns when it works: replicas are
// ready, every node has an agent and a NodeImage.
func install(ctx context.Context) error {
	err := shared.Client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-controller-manager"}, &appsv1.Deployment{})
	if apierrors.IsNotFound(err) {
		err = installChart(ctx)
	}
	if err != nil {
		return err
	}
	var last error
	if err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = installed(ctx)
		return last == nil, nil
	}); err != nil {
		return fmt.Errorf("waiting for Kruise: %w", last)
	}
	return nil
}

// installChart pushes the image that `make images` built into the lab's registry and installs the chart.
func installChart(ctx context.Context) error {
	if shared.Dir == "" {
		return errors.New("Kruise is not installed in this cluster")
	}
	archive, err := cluster.Binary("images/kruise-manager.tar")
	if err != nil {
		return fmt.Errorf("%w (run `make images`)", err)
	}
	bin, err := cluster.Binary("lab")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, bin, "--dir", shared.Dir, "image", "push", "openkruise/kruise-manager:e2e", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("lab image push: %w: %s", err, out)
	}
	_, err = helm(ctx, "install", release, "../../charts/kruise", "--values", "testdata/values.yaml")
	return err
}

// helm runs Helm on the shared cluster, with its own files in the lab's directory, and returns what it prints.
func helm(ctx context.Context, args ...string) (string, error) {
	bin, err := cluster.Binary("helm")
	if err != nil {
		return "", fmt.Errorf("%w (run `make bin/helm`)", err)
	}
	cmd := exec.CommandContext(ctx, bin, append(args, "--namespace", "default")...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.Kubeconfig())
	for _, kind := range []string{"CACHE", "CONFIG", "DATA"} {
		cmd.Env = append(cmd.Env, "HELM_"+kind+"_HOME="+filepath.Join(shared.Dir, "helm", strings.ToLower(kind)))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %s: %w: %s", args[0], err, out)
	}
	return string(out), err
}

// installed says what is not there yet.
func installed(ctx context.Context) error {
	manager, daemon := &appsv1.Deployment{}, &appsv1.DaemonSet{}
	if err := shared.Client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-controller-manager"}, manager); err != nil {
		return err
	}
	if err := shared.Client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-daemon"}, daemon); err != nil {
		return err
	}
	var images v1beta1.NodeImageList
	if err := shared.Client.List(ctx, &images); err != nil {
		return err
	}
	d, m := daemon.Status, manager.Status
	if m.ReadyReplicas < *manager.Spec.Replicas || d.NumberReady < nodes || d.NumberReady < d.DesiredNumberScheduled || len(images.Items) < nodes {
		return fmt.Errorf("%d managers and %d of %d agents are ready, there are %d NodeImages", m.ReadyReplicas, d.NumberReady, d.DesiredNumberScheduled, len(images.Items))
	}
	// The Deployment may be ready before the apiserver knows the way to its webhooks.
	probe := &v1beta1.CloneSet{}
	probe.Namespace, probe.Name = "default", "probe"
	if err := shared.Client.Create(ctx, probe, client.DryRunAll); !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("an empty CloneSet should be refused: %w", err)
	}
	return nil
}

// describeInstallation tells what one wants to know of an installation that does not work.
func describeInstallation() string {
	var b strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", "control-plane=controller-manager", "--tail=40"}, {"logs", "-l", "control-plane=daemon", "--tail=40"},
	} {
		out, err := shared.Kubectl(ctx, "", append([]string{"--namespace", systemNamespace}, args...)...)
		fmt.Fprintln(&b, out, errors.Join(err))
	}
	return b.String()
}

// systemPods returns Kruise's own pods by the value of their label control-plane.
func systemPods(ctx context.Context, controlPlane string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := shared.Client.List(ctx, &list, client.InNamespace(systemNamespace), client.MatchingLabels{"control-plane": controlPlane})
	return list.Items, err
}
