// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri"
)

const (
	messageNotFound = "not found container on Node"
	// lostTime is how long after the request's creation a container that the runtime does not know is given up (W17).
	lostTime = 10 * time.Minute
	// stopping, followed by an ID, is the message of a container that is being stopped by force: the record that this
	// very container was, should the agent restart meanwhile (W9, W18).
	stopping = "stopping "
)

// observed is a container as the runtime knows it now.
type observed struct {
	container *runtimeapi.Container
	startedAt time.Time
	exitCode  int32
}

// pass is what one round looks at.
type pass struct {
	crr     *appsv1beta1.ContainerRecreateRequest
	current map[string]observed
	// spec is the pod's; nil if it is not known.
	spec *corev1.PodSpec
	now  time.Time
}

type (
	state = appsv1beta1.ContainerRecreateRequestContainerRecreateState
	phase = appsv1beta1.ContainerRecreateRequestPhase
)

const (
	pending    = appsv1beta1.ContainerRecreateRequestPending
	recreating = appsv1beta1.ContainerRecreateRequestRecreating
	succeeded  = appsv1beta1.ContainerRecreateRequestSucceeded
	failed     = appsv1beta1.ContainerRecreateRequestFailed
	completed  = appsv1beta1.ContainerRecreateRequestCompleted
)

// step is what one round does: at most one of its fields says something, in this order.
type step struct {
	states   []state // to be written
	complete bool
	message  string
	// stop are the containers to stop now: one or, if their order does not matter, several.
	stop []int
	// after is when to look again although nothing happened; 0 for the safety poll only.
	after time.Duration
}

// plan decides about the next round of a request that is being executed (container-restart 5.4).
func plan(p *pass) *step {
	s := &step{}
	var wait time.Duration
	states := make([]state, len(p.crr.Spec.Containers))
	for i := range p.crr.Spec.Containers {
		var left time.Duration
		states[i], left = p.stateOf(i)
		if left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	ignore := p.crr.Spec.Strategy != nil && p.crr.Spec.Strategy.FailurePolicy == appsv1beta1.ContainerRecreateRequestFailurePolicyIgnore
	ordered := p.crr.Spec.Strategy != nil && p.crr.Spec.Strategy.OrderedRecreate
	done := 0
	var stop []int
walk:
	for i := range states {
		switch states[i].Phase {
		case succeeded:
			done++
		case failed:
			done++
			if !ignore {
				skipRest(states)
				s.complete, s.states, s.message = true, states, summary(states)
				return s
			}
		case recreating:
			if ordered {
				break walk
			}
		case pending:
			if _, ok := p.current[states[i].Name]; !ok {
				break walk
			}
			stop = append(stop, i)
			if ordered || !ignore { // a failure must keep the following containers from being stopped
				break walk
			}
		}
	}
	switch {
	case done == len(states):
		s.complete, s.states, s.message = true, states, summary(states)
	case !slices.Equal(states, p.crr.Status.ContainerRecreateStates):
		s.states = states
	default:
		s.stop, s.after = stop, wait
	}
	return s
}

// stateOf is the state of one container as the runtime has it now, and when time alone may change that.
func (p *pass) stateOf(i int) (state, time.Duration) {
	c := &p.crr.Spec.Containers[i]
	st := state{Name: c.Name, Phase: pending}
	if at := slices.IndexFunc(p.crr.Status.ContainerRecreateStates, func(s state) bool { return s.Name == c.Name }); at >= 0 {
		st = p.crr.Status.ContainerRecreateStates[at]
	}
	if st.Phase == failed || st.Phase == succeeded {
		return st, 0
	}
	now, ok := p.current[c.Name]
	if !ok {
		st.Phase, st.Message = pending, messageNotFound
		left := lostTime - p.now.Sub(p.crr.CreationTimestamp.Time)
		if left <= 0 {
			st.Phase = failed
		}
		return st, left
	}
	stopped, intent := strings.CutPrefix(st.Message, stopping)
	if intent && stopped != now.container.Id {
		st.IsKilled = true // stopped, though the agent did not live to tell
	}
	if !intent || st.IsKilled {
		st.Message = ""
	}
	if now.container.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		if p.staysDown(c.Name, now.exitCode) {
			st.Phase, st.Message = succeeded, "stopped, will not be restarted"
			return st, 0
		}
		st.Phase = recreating
		return st, 0
	}
	if p.force() && !st.IsKilled {
		st.Phase = pending
		return st, 0
	}
	old := c.StatusContext
	if old == nil || bare(old.ContainerID) != now.container.Id || restarts(now.container) > old.RestartCount {
		st.Phase = recreating
		return p.settled(st, now)
	}
	st.Phase = pending
	return st, 0
}

// settled says whether a new container is ready, by the kubelet's word, and up for long enough, by the node's clock.
func (p *pass) settled(st state, now observed) (state, time.Duration) {
	ready := slices.ContainsFunc(p.crr.Status.ContainerStatusSnapshot, func(s appsv1beta1.ContainerRecreateRequestContainerStatus) bool {
		return s.Name == st.Name && s.Ready && bare(s.ContainerID) == now.container.Id
	})
	if !ready {
		return st, 0
	}
	least := time.Duration(0)
	if p.crr.Spec.Strategy != nil {
		least = time.Duration(p.crr.Spec.Strategy.MinStartedSeconds) * time.Second
	}
	if up := p.now.Sub(now.startedAt); least > 0 && up <= least {
		return st, least - up + 100*time.Millisecond
	}
	st.Phase = succeeded
	return st, 0
}

// staysDown says whether the kubelet leaves an exited container alone (W5). A container's own policy, such as that of a
// sidecar among the init containers, counts more than the pod's, and its rules more than that.
func (p *pass) staysDown(name string, exitCode int32) bool {
	if p.spec == nil {
		return false
	}
	policy := p.spec.RestartPolicy
	if c := containerOf(p.spec, name); c != nil && c.RestartPolicy != nil {
		if slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.ExitCodes != nil && slices.Contains(r.ExitCodes.Values, exitCode) == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn)
		}) {
			return false
		}
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	return policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && exitCode == 0
}

func containerOf(spec *corev1.PodSpec, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func (p *pass) force() bool { return p.crr.Spec.Strategy != nil && p.crr.Spec.Strategy.ForceRecreate }

// skipRest marks the containers that a failure has left where they were (W15).
func skipRest(states []state) {
	for i := range states {
		switch s := &states[i]; {
		case s.Phase == pending && s.Message == "":
			s.Message = "skipped"
		case s.Phase == recreating && s.Message == "":
			s.Message = "not waited for"
		}
	}
}

// summary is the message of a request that went through (W12).
func summary(states []state) string {
	n := map[phase]int{}
	var reasons []string
	for _, s := range states {
		n[s.Phase]++
		if s.Phase == failed {
			reasons = append(reasons, s.Name+": "+s.Message)
		}
	}
	out := fmt.Sprintf("%d succeeded, %d failed", n[succeeded], n[failed])
	if skipped := n[pending] + n[recreating]; skipped > 0 {
		out += fmt.Sprintf(", %d given up", skipped)
	}
	if len(reasons) > 0 {
		out += " (" + strings.Join(reasons, "; ") + ")"
	}
	return out
}

func bare(id string) string {
	if _, b, ok := strings.Cut(id, "://"); ok {
		return b
	}
	return id
}

func restarts(c *runtimeapi.Container) int32 {
	n, err := strconv.ParseInt(c.Annotations[cri.AnnotationRestartCount], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}
