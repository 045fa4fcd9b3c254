// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/seconds"
)

const (
	defaultTimeout = 600 * time.Second
	defaultBackoff = 3
	maxMessage     = 1024 // bytes
)

// waiting is why an attempt could not even begin. It is made again, and does not count.
type waiting struct{ error }

// ErrNotYet of Options.Images says that the runtime is about to be connected: the attempt does not count.
var ErrNotYet = errors.New("waiting for the container runtime")

var errDeadline = errors.New("pulling exceeds the activeDeadlineSeconds")

// pull is one task at work. What it was started with does not change.
type pull struct {
	puller        *Puller
	node          *appsv1beta1.NodeImage // name and UID only
	image         reference.Image
	secrets       []appsv1beta1.ReferenceObject
	sandboxConfig *appsv1beta1.SandboxConfig
	tag           appsv1beta1.ImageTagSpec
	task          *task
	since         *metav1.Time // when the deadline begins, nil if there is none
	pulled        bool         // rather than found
	ticket        ticket       // of the slot that is waited for or held; nil for none
}

// run waits for a slot, pulls, and reports, unless ctx ends before.
func (j *pull) run(ctx context.Context) {
	p := j.puller
	accepted := time.Now()
	if j.acquire(ctx) != nil {
		return
	}
	defer j.release()
	queued := time.Since(accepted)
	j.task.set(func(st *appsv1beta1.ImageTagStatus) {
		st.Phase, st.StartTime = appsv1beta1.ImagePhasePulling, now()
		if queued >= time.Second {
			st.Message = fmt.Sprintf("waited %s for other pulls", queued.Round(time.Second))
		}
	})
	p.wake(j.node)
	began := time.Now()
	id, err := j.attempts(ctx)
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
		count("failed", time.Since(began))
	case j.pulled:
		count("pulled", time.Since(began))
	default:
		count("present", time.Since(began))
	}
	message := ""
	if err != nil {
		message = readable(err)
	}
	j.task.set(func(st *appsv1beta1.ImageTagStatus) {
		st.Phase, st.Progress, st.ImageID, st.Message = appsv1beta1.ImagePhaseSucceeded, 100, id, ""
		st.CompletionTime = now()
		if err != nil {
			st.Phase, st.Progress, st.Message = appsv1beta1.ImagePhaseFailed, 0, message
		}
	})
	j.announce(err, message)
	p.wake(j.node)
}

// now is the time as a status keeps it. With fractions of a second it would differ from what was written for ever, and so
// be written again at every look.
func now() *metav1.Time { return ptr.To(metav1.NewTime(time.Now().Truncate(time.Second))) }

// acquire waits for the slot that was asked for.
func (j *pull) acquire(ctx context.Context) error {
	if j.ticket == nil {
		return nil
	}
	err := j.puller.slots.wait(ctx, j.ticket)
	if err != nil {
		j.ticket = nil
	}
	return err
}

func (j *pull) release() {
	if j.ticket != nil {
		j.puller.slots.release()
		j.ticket = nil
	}
}

// wait tells what a pull waits for and leaves its slot to others meanwhile.
func (j *pull) wait(ctx context.Context, reason string, d time.Duration) error {
	j.tell(appsv1beta1.ImagePhaseWaiting, reason)
	j.release()
	if err := sleep(ctx, d); err != nil {
		return err
	}
	if j.puller.slots != nil {
		j.ticket = j.puller.slots.ask()
	}
	return j.acquire(ctx)
}

// tell reports a phase that differs from the one reported, or another reason to wait.
func (j *pull) tell(phase appsv1beta1.ImagePullPhase, message string) {
	changed := false
	j.task.set(func(st *appsv1beta1.ImageTagStatus) {
		if changed = st.Phase != phase || phase == appsv1beta1.ImagePhaseWaiting && st.Message != message; changed {
			st.Phase, st.Message = phase, message
		}
	})
	if changed {
		j.puller.wake(j.node)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// announce tells the NodeImage how the pull ended, and the jobs if it failed.
func (j *pull) announce(err error, message string) {
	self := &corev1.ObjectReference{APIVersion: appsv1beta1.GroupVersion.String(), Kind: "NodeImage", Name: j.node.Name, UID: j.node.UID}
	if err == nil {
		j.puller.event(self, corev1.EventTypeNormal, "PullImageSucceed", fmt.Sprintf("Image %s is present", j.image))
		return
	}
	text := fmt.Sprintf("Image %s on node %s: %s", j.image, j.node.Name, message)
	for i := range j.tag.OwnerReferences {
		j.puller.event(&j.tag.OwnerReferences[i], corev1.EventTypeWarning, "PullImageFailed", text)
	}
	j.puller.event(self, corev1.EventTypeWarning, "PullImageFailed", text)
}

// attempts tries until one attempt succeeds, none is left or the deadline is over. The deadline begins with the task, as
// in the manager, so waiting for a slot counts (W14): when the agent hears of it or, for those that it finds at its start,
// at createdAt, which is by the manager's clock.
func (j *pull) attempts(ctx context.Context) (imageID string, err error) {
	policy := ptr.Deref(j.tag.PullPolicy, appsv1beta1.ImageTagPullPolicy{})
	timeout := defaultTimeout
	if s := policy.TimeoutSeconds; s != nil && *s > 0 {
		timeout = time.Duration(*s) * time.Second
	}
	limit := ptr.Deref(policy.BackoffLimit, defaultBackoff)
	if limit < 0 {
		limit = defaultBackoff
	}
	if d := policy.ActiveDeadlineSeconds; d != nil && j.since != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, j.since.Add(seconds.Of(*d)), errDeadline)
		defer cancel()
	}
	if err := j.normalise(); err != nil {
		return "", err
	}
	if !j.puller.allowed(j.image.Name) {
		return "", fmt.Errorf("registry not allowed: %s", j.image.Name)
	}
	delay := j.puller.Delay
	for i := int32(0); ; {
		imageID, err = j.attempt(ctx, timeout, i == limit)
		if err == nil {
			return imageID, nil
		}
		var reason *waiting
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &reason):
			err = j.wait(ctx, readable(reason), delay)
		case i == limit:
			return "", err
		default:
			i++
			err = sleep(ctx, delay)
		}
		if errors.Is(context.Cause(ctx), errDeadline) {
			return "", errDeadline
		}
		if ctx.Err() != nil {
			return "", err
		}
		delay = min(2*delay, 30*j.puller.Delay)
	}
}

// normalise makes sure that the runtime takes name and tag, which need not come from a job, for what they are: the name
// decides which registries are allowed and which credentials are sent, and with the tag "5000/app" it would be the host of
// another. The name becomes the familiar one.
func (j *pull) normalise() error {
	image, err := reference.Parse(j.image.String())
	if err != nil || image.Tag != j.image.Tag || reference.FullName(image.Name) != reference.FullName(j.image.Name) {
		return fmt.Errorf("%q with tag %q is no image", j.image.Name, j.image.Tag)
	}
	j.image = image
	return nil
}

// attempt looks whether the image is present, if that is enough, and pulls it with each credential in turn. The last
// attempt ends without credentials: an expired one must not keep a public image away (W18).
func (j *pull) attempt(ctx context.Context, timeout time.Duration, last bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	images, err := j.puller.Images(ctx)
	if errors.Is(err, ErrNotYet) {
		return "", &waiting{err}
	}
	if err != nil {
		return "", err
	}
	if j.tag.ImagePullPolicy == appsv1beta1.PullIfNotPresent {
		id, err := j.present(ctx, images)
		if err != nil || id != "" {
			return id, err
		}
	}
	if err := j.puller.roomFor(ctx, images); err != nil {
		return "", err
	}
	logins, problem, err := j.puller.Credentials.For(ctx, j.image, j.secrets, j.tag.OwnerReferences)
	if err != nil {
		return "", err
	}
	if len(logins) == 0 || last {
		logins = append(logins, nil)
	}
	j.tell(appsv1beta1.ImagePhasePulling, "") // after a wait
	var errs []error
	for _, login := range logins {
		if _, err = images.PullImage(ctx, &runtimeapi.ImageSpec{Image: j.image.String()}, login, j.sandbox()); err == nil {
			j.pulled = true
			if id, err := j.present(ctx, images); err == nil {
				return id, nil
			}
			return "", nil // pulled, but the list is not to be had
		}
		errs = append(errs, err)
	}
	j.puller.Credentials.Forget()
	if problem != "" {
		errs = append(errs, errors.New(problem))
	}
	return "", errors.Join(errs...)
}

// present returns the image's ID in the form name@id, "" if the runtime does not list it.
func (j *pull) present(ctx context.Context, images cri.Images) (string, error) {
	list, err := images.ListImages(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("listing images: %w", err)
	}
	for _, image := range list {
		names := image.RepoTags
		if j.image.IsDigest() {
			names = image.RepoDigests
		}
		for _, name := range names {
			if got, err := reference.Parse(name); err == nil && got == j.image {
				return j.image.Name + "@" + image.Id, nil
			}
		}
	}
	return "", nil
}

// sandbox returns the metadata that goes with the request; a copy per request (W16).
func (j *pull) sandbox() *runtimeapi.PodSandboxConfig {
	c := &runtimeapi.PodSandboxConfig{Annotations: map[string]string{}}
	if own := j.sandboxConfig; own != nil {
		c.Labels = maps.Clone(own.Labels)
		maps.Copy(c.Annotations, own.Annotations)
	}
	c.Annotations[appsv1beta1.PullingImageByKey] = "kruise-daemon"
	return c
}

var (
	userInfo = regexp.MustCompile(`(://)[^/\s"]+@`)
	query    = regexp.MustCompile(`(://[^\s?"]*)\?[^\s"]*`)
	blob     = regexp.MustCompile(`[A-Za-z0-9+/_-]{33,}={0,2}`)
	digest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// readable returns an error as users may see it: without credentials, and short (security 5.3.3).
func readable(err error) string {
	s := userInfo.ReplaceAllString(err.Error(), "$1")
	s = query.ReplaceAllString(s, "$1")
	s = blob.ReplaceAllStringFunc(s, func(m string) string {
		if digest.MatchString(m) || strings.Contains(m, "/") && !strings.ContainsAny(m, "+=") && strings.ToLower(m) == m {
			return m // a digest or a path
		}
		return "…"
	})
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "")
	}
	return s
}
