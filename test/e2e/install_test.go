// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/config"
	manifests "kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/cluster"
)

const (
	systemNamespace = "kruise-system"
	configNamespace = "kruise-daemon-config"
	kruiseImage     = "kruise:e2e"
)

// install puts Kruise into the cluster unless it is there, and returns when it works: replicas are ready, every node has
// an agent and a NodeImage.
func install(ctx context.Context) error {
	manager := &appsv1.Deployment{}
	manager.Namespace, manager.Name = systemNamespace, "kruise-controller-manager"
	err := shared.Client.Get(ctx, client.ObjectKeyFromObject(manager), manager)
	if apierrors.IsNotFound(err) {
		err = installManifests(ctx)
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

// installManifests installs what config/ holds and the processes as pods, from an image of the programs in bin/.
func installManifests(ctx context.Context) error {
	push := []string{"image", "push", "--dir", shared.Dir, kruiseImage}
	for to, name := range map[string]string{"/manager": "kruise-manager", "/kruise-daemon": "kruise-daemon"} {
		path, err := cluster.Binary(name)
		if err != nil {
			return err
		}
		push = append(push, to+"="+path)
	}
	bin, err := cluster.Binary("lab")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, bin, push...).CombinedOutput(); err != nil {
		return fmt.Errorf("lab image push: %w: %s", err, out)
	}
	if err := manifests.Install(ctx, shared.Config(), manifests.Options{RBAC: true}); err != nil {
		return err
	}
	rights, err := config.FS.ReadFile("rbac/daemon.yaml")
	if err != nil {
		return err
	}
	processes, err := os.ReadFile("testdata/kruise.yaml")
	if err != nil {
		return err
	}
	for _, text := range [][]byte{rights, processes} {
		for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(doc, &obj.Object); err != nil {
				return err
			}
			if err := shared.Client.Create(ctx, obj); client.IgnoreAlreadyExists(err) != nil {
				return fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
			}
		}
	}
	return nil
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
