// SPDX-License-Identifier: Apache-2.0

package containermeta

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilexec "k8s.io/utils/exec"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/pod/inplace"
)

const (
	// envTimeout is the limit of running env in a container.
	envTimeout = 3 * time.Second
	// firstRetry and maxDelay bound the time after an environment could not be read.
	firstRetry = 3 * time.Second
	// giveUpAfter is how often the runtime may fail to tell the environment of a container before that is reported as
	// final: some 45 seconds.
	giveUpAfter = 5
	maxReason   = 256 // bytes
)

// reading is how often the environment of one container could not be read, and when it is tried again.
type reading struct {
	id       string
	failures int
	delay    time.Duration
	at       time.Time
}

// readEnv puts the hash of the environment with which a container runs into its record. If it can't be read that is
// tried again, less and less often; when there is no hope left the record says why, and an event, so that the manager
// does not wait for ever (A-W1). It returns when to try again, 0 for never.
func (r *Reconciler) readEnv(ctx context.Context, rt *cri.Runtime, p *corev1.Pod, spec *corev1.Container, id string, meta *pub.RuntimeContainerMeta) time.Duration {
	key := client.ObjectKeyFromObject(p)
	state := r.readingOf(key, meta)
	if wait := time.Until(state.at); wait > 0 {
		return wait
	}
	hash, err := envHash(ctx, rt, p, spec, id)
	if err == nil {
		meta.Hashes.ExtractedEnvFromMetadataHash, meta.EnvUnreadable = hash, ""
		r.read(key, meta.Name)
		return 0
	}
	state.at = time.Now().Add(state.delay)
	wait := state.delay
	state.delay = min(2*state.delay, maxDelay)
	log.FromContext(ctx).V(1).Info("The environment of a container can't be read; it is tried again", "container", spec.Name, "reason", reasonOf(err), "after", wait)
	if ctx.Err() != nil || grpcstatus.Code(err) == codes.Unavailable { // the runtime is not there: that says nothing
		return wait
	}
	if state.failures++; state.failures >= giveUpAfter && meta.EnvUnreadable == "" {
		meta.EnvUnreadable = reasonOf(err)
		r.Recorder.Event(p, corev1.EventTypeWarning, "FailedReadEnv", fmt.Sprintf("Can't read the environment of container %s: %s", spec.Name, meta.EnvUnreadable))
	}
	return wait
}

// readingOf returns the state of a container. Only the one reconcile of its pod changes it.
func (r *Reconciler) readingOf(key types.NamespacedName, meta *pub.RuntimeContainerMeta) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unread == nil {
		r.unread = map[types.NamespacedName]map[string]*reading{}
	}
	if r.unread[key] == nil {
		r.unread[key] = map[string]*reading{}
	}
	state := r.unread[key][meta.Name]
	if state == nil || state.id != meta.ContainerID {
		state = &reading{id: meta.ContainerID, delay: cmp.Or(r.FirstRetry, firstRetry)}
		r.unread[key][meta.Name] = state
	}
	return state
}

// read forgets a container whose environment was read.
func (r *Reconciler) read(key types.NamespacedName, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.unread[key], name); len(r.unread[key]) == 0 {
		delete(r.unread, key)
	}
}

// reasonOf returns an error as users may see it: without what the program printed, and short.
func reasonOf(err error) string {
	var exit utilexec.ExitError
	if errors.As(err, &exit) {
		return fmt.Sprintf("the container runtime does not tell it, and program env ended with status %d", exit.ExitStatus())
	}
	text := "the container runtime does not tell it, and program env can't be run: " + err.Error()
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// envHash returns the hash of the environment with which a container runs. Nothing is read if nothing of it is fed from
// labels or annotations (A-W9).
func envHash(ctx context.Context, rt *cri.Runtime, p *corev1.Pod, spec *corev1.Container, id string) (uint64, error) {
	if !inplace.HasFedEnv(spec) {
		return inplace.RunningEnvHash(spec, nil), nil
	}
	if env := configuredEnv(ctx, rt, id); env != nil {
		return inplace.RunningEnvHash(spec, env), nil
	}
	stdout, _, err := rt.ExecSync(ctx, id, []string{"env"}, envTimeout)
	if err != nil {
		return 0, err
	}
	return inplace.RunningEnvHash(spec, printedEnv(string(stdout), inplace.FedEnv(spec, p))), nil
}

// configuredEnv returns the environment from the runtime's own record of the container, nil if it does not tell: of the
// OCI configuration that the process was started with (containerd, CRI-O), or of what the kubelet asked for. It needs no
// program in the image and keeps values of several lines whole (A-W1).
func configuredEnv(ctx context.Context, rt *cri.Runtime, id string) map[string]string {
	resp, err := rt.ContainerStatus(ctx, id, true)
	if err != nil || resp.Info["info"] == "" {
		return nil
	}
	var info struct {
		RuntimeSpec struct {
			Process struct {
				Env []string `json:"env"`
			} `json:"process"`
		} `json:"runtimeSpec"`
		Config struct {
			Envs []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"envs"`
		} `json:"config"`
	}
	if err := json.Unmarshal([]byte(resp.Info["info"]), &info); err != nil {
		return nil
	}
	if len(info.RuntimeSpec.Process.Env)+len(info.Config.Envs) == 0 {
		return nil
	}
	env := map[string]string{}
	for _, e := range info.Config.Envs {
		env[e.Key] = e.Value
	}
	for _, entry := range info.RuntimeSpec.Process.Env {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	return env
}

// printedEnv reads the output of the program env, which does not tell where a value of several lines ends. Such a value
// is recognised if it is the one that labels and annotations want; another one is wrong anyway.
func printedEnv(output string, wanted map[string]string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(output) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "="); ok {
			env[name] = value
		}
	}
	for name, value := range wanted {
		if strings.Contains("\n"+output, "\n"+name+"="+value+"\n") {
			env[name] = value
		}
	}
	return env
}
