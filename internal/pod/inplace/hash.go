// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/dump"

	"kruise.io/kruise/api/apps/pub"
)

// deepHash is FNV-32a over Kubernetes' deep rendering of an object.
func deepHash(object any) uint64 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(object))
	return uint64(h.Sum32())
}

// KubeletHashes returns the hashes that kubelets compute of a container: that of kubelet 1.31 and later, over name and
// image, and that of earlier ones, over the whole container (inplace-update 5.8c).
func KubeletHashes(c *corev1.Container) [2]uint64 {
	// Neither a map of strings nor a container fails to encode.
	picked, _ := json.Marshal(map[string]string{"name": c.Name, "image": c.Image})
	whole, _ := json.Marshal(c)
	return [2]uint64{deepHash(picked), deepHash(whole)}
}

// EnvHash returns the hash of the environment of container c that is fed from the labels and annotations of pod p. Node
// agent and manager must agree on it (inplace-update 5.9).
func EnvHash(c *corev1.Container, p *corev1.Pod) uint64 {
	return envHash(c, func(_ string, s source) string { return s.valueOn(p) })
}

// RunningEnvHash is EnvHash of a container that runs with the environment env.
func RunningEnvHash(c *corev1.Container, env map[string]string) uint64 {
	return envHash(c, func(name string, _ source) string { return env[name] })
}

// FedEnv returns what the environment of container c would hold that is fed from the labels and annotations of pod p, by
// name of the variable.
func FedEnv(c *corev1.Container, p *corev1.Pod) map[string]string {
	env := map[string]string{}
	for i := range c.Env {
		if source, ok := feeder(&c.Env[i]); ok {
			env[c.Env[i].Name] = source.valueOn(p)
		}
	}
	return env
}

// HasFedEnv says whether any environment variable of the container is fed from labels or annotations; without one its
// hash does not depend on the pod.
func HasFedEnv(c *corev1.Container) bool {
	for i := range c.Env {
		if _, ok := feeder(&c.Env[i]); ok {
			return true
		}
	}
	return false
}

func envHash(c *corev1.Container, value func(name string, s source) string) uint64 {
	type env struct {
		Name  string `json:"name"`
		Value string `json:"value,omitempty"`
	}
	var fed []env
	for i := range c.Env {
		if source, ok := feeder(&c.Env[i]); ok {
			fed = append(fed, env{c.Env[i].Name, value(c.Env[i].Name, source)})
		}
	}
	slices.SortStableFunc(fed, func(a, b env) int { return strings.Compare(a.Name, b.Name) })
	encoded, _ := json.Marshal(fed)
	return deepHash(encoded)
}

// source is a label or annotation key of a pod.
type source struct {
	annotation bool
	key        string
}

func (s source) valueOn(p *corev1.Pod) string {
	if s.annotation {
		return p.Annotations[s.key]
	}
	return p.Labels[s.key]
}

// feeder returns the label or annotation that an env entry takes its value from, if it does (inplace-update 5.9).
func feeder(e *corev1.EnvVar) (source, bool) {
	if e.Value != "" || e.ValueFrom == nil || e.ValueFrom.FieldRef == nil {
		return source{}, false
	}
	if e.Name == "SIDECARSET_VERSION" || e.Name == "SIDECARSET_VERSION_ALT" {
		return source{}, false
	}
	path, ok := strings.CutSuffix(e.ValueFrom.FieldRef.FieldPath, "']")
	if !ok {
		return source{}, false
	}
	if key, ok := strings.CutPrefix(path, "metadata.labels['"); ok {
		return source{key: key}, true
	}
	if key, ok := strings.CutPrefix(path, "metadata.annotations['"); ok {
		return source{annotation: true, key: key}, true
	}
	return source{}, false
}

// agentReport returns what the node agent reported of the pod's containers; nil if nothing that can be read.
func agentReport(p *corev1.Pod) map[string]pub.RuntimeContainerMeta {
	value := p.Annotations[pub.RuntimeContainersMetaKey]
	if value == "" {
		return nil
	}
	var set pub.RuntimeContainerMetaSet
	if err := json.Unmarshal([]byte(value), &set); err != nil {
		return nil
	}
	byName := make(map[string]pub.RuntimeContainerMeta, len(set.Containers))
	for _, c := range set.Containers {
		byName[c.Name] = c
	}
	return byName
}

// matchesReport says whether the agent's report is of the very container that the status shows, and ok holds for it.
func matchesReport(p *corev1.Pod, name string, report map[string]pub.RuntimeContainerMeta, ok func(pub.RuntimeContainerHashes) bool) bool {
	status := statusOf(p, name)
	meta, found := report[name]
	return found && status != nil && meta.ContainerID == status.ContainerID && ok(meta.Hashes)
}

// plainHashMatches says whether the agent saw the container running as the spec has it.
func plainHashMatches(p *corev1.Pod, c *corev1.Container, report map[string]pub.RuntimeContainerMeta) bool {
	return matchesReport(p, c.Name, report, func(h pub.RuntimeContainerHashes) bool {
		hashes := KubeletHashes(c)
		return h.PlainHash == hashes[0] || h.PlainHash == hashes[1]
	})
}

// envHashMatches says whether the agent saw the container with the environment that its labels and annotations feed now.
func envHashMatches(p *corev1.Pod, c *corev1.Container, report map[string]pub.RuntimeContainerMeta) bool {
	return matchesReport(p, c.Name, report, func(h pub.RuntimeContainerHashes) bool {
		return h.ExtractedEnvFromMetadataHash == EnvHash(c, p)
	})
}

// envUnreadable returns why the agent can't tell the environment of the very container that the status shows; empty if it
// can, or may yet.
func envUnreadable(p *corev1.Pod, c *corev1.Container, report map[string]pub.RuntimeContainerMeta) string {
	meta, status := report[c.Name], statusOf(p, c.Name)
	if status == nil || meta.ContainerID != status.ContainerID {
		return ""
	}
	return meta.EnvUnreadable
}
