// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/lab"
)

// needsLab skips tests that look into nodes, the registry or the audit log, which a cluster that is no lab does not show.
func (w *world) needsLab() {
	w.Helper()
	if shared.Dir == "" {
		w.Skip("needs the lab")
	}
}

// nodeProcess is the pid of a real node's first process.
func nodeProcess(node string) (int, error) {
	info, err := labInfo()
	if err != nil {
		return 0, err
	}
	for _, p := range info.Processes {
		if p.Name == node {
			return p.PID, nil
		}
	}
	return 0, fmt.Errorf("no process of node %s", node)
}

// labInfo reads the lab's state anew: a node that was started again has another process.
func labInfo() (lab.Info, error) {
	l, err := lab.Attach(shared.Dir)
	if err != nil {
		return lab.Info{}, err
	}
	return l.Info, nil
}

// cri returns the services of a node's container runtime, through the socket that the node's file system has.
func (w *world) cri(node string) (internalapi.RuntimeService, internalapi.ImageManagerService) {
	w.Helper()
	pid, err := nodeProcess(node)
	w.must(err)
	endpoint := fmt.Sprintf("unix:///proc/%d/root/run/containerd/containerd.sock", pid)
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	runtime, err := remote.NewRemoteRuntimeServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(10 * time.Second).Build(ctx)
	w.must(err)
	images, err := remote.NewRemoteImageServiceBuilder().WithEndpoint(endpoint).WithConnectionTimeout(10 * time.Second).Build(ctx)
	w.must(err)
	return runtime, images
}

// imageOn returns the ID of an image as the node's runtime lists it, "" if it does not.
func (w *world) imageOn(node, image string) string {
	w.Helper()
	_, images := w.cri(node)
	list, err := images.ListImages(w.ctx, nil)
	w.must(err)
	for _, i := range list {
		for _, tag := range i.RepoTags {
			if tag == image {
				return i.Id
			}
		}
	}
	return ""
}

// forgetImage removes an image from all nodes, so that it has to be pulled.
func (w *world) forgetImage(image string) {
	w.Helper()
	for _, node := range w.nodes() {
		_, images := w.cri(node)
		w.must(images.RemoveImage(w.ctx, &runtimeapi.ImageSpec{Image: image}))
	}
}

// nodes are the names of the real nodes.
func (w *world) nodes() []string {
	w.Helper()
	var list corev1.NodeList
	w.must(w.client.List(w.ctx, &list, client.MatchingLabels{"lab.kruise.io/node": "real"}))
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

// agent returns the pod of the agent on a node.
func (w *world) agent(node string) *corev1.Pod {
	w.Helper()
	pods, err := systemPods(w.ctx, "daemon")
	w.must(err)
	for i := range pods {
		if pods[i].Spec.NodeName == node && pods[i].DeletionTimestamp == nil {
			return &pods[i]
		}
	}
	w.Fatalf("no agent on node %s", node)
	return nil
}

// agentLogs is what the agents of all nodes and the managers have printed so far.
func (w *world) systemLogs() string {
	w.Helper()
	var b strings.Builder
	for _, which := range []string{"daemon", "controller-manager"} {
		pods, err := systemPods(w.ctx, which)
		w.must(err)
		for i := range pods {
			out, err := shared.Kubectl(w.ctx, "", "logs", "--namespace", systemNamespace, pods[i].Name)
			w.must(err)
			b.WriteString(out)
		}
	}
	return b.String()
}

// onNode runs a shell command among the processes of a node.
func (w *world) onNode(node, command string) string {
	w.Helper()
	return w.lab("node", "exec", node, "--", "sh", "-c", command)
}

// agentsUnharmed fails the test if an agent was restarted since the pods were noted.
func (w *world) agentsUnharmed(before []corev1.Pod) {
	w.Helper()
	now, err := systemPods(w.ctx, "daemon")
	w.must(err)
	for i := range before {
		if before[i].Spec.NodeName == "" {
			continue // for a node that was there for a moment only
		}
		found := errors.New("is gone")
		for j := range now {
			if now[j].UID == before[i].UID {
				found = nil
				if a, b := status(&before[i], "daemon").RestartCount, status(&now[j], "daemon").RestartCount; a != b {
					found = fmt.Errorf("was restarted %d times", b-a)
				}
			}
		}
		if found != nil {
			w.Errorf("agent %s on %s %v", before[i].Name, before[i].Spec.NodeName, found)
		}
	}
}

// memory is what the kernel says of the memory of the first process of a pod's first container, in kB, by the names of
// /proc/PID/status.
func (w *world) memory(p *corev1.Pod) map[string]int {
	w.Helper()
	runtime, _ := w.cri(p.Spec.NodeName)
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	resp, err := runtime.ContainerStatus(w.ctx, id, true)
	w.must(err)
	var info struct {
		PID int `json:"pid"`
	}
	w.must(json.Unmarshal([]byte(resp.Info["info"]), &info))
	node, err := nodeProcess(p.Spec.NodeName)
	w.must(err)
	// The node's own /proc has the runtime's pids.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/proc/%d/status", node, info.PID))
	w.must(err)
	kB := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[2] == "kB" {
			kB[fields[0]], err = strconv.Atoi(fields[1])
			w.must(err)
		}
	}
	return kB
}
