// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
)

const (
	// DefaultTimeoutSeconds holds for one attempt (image-pulling 3.1).
	DefaultTimeoutSeconds = 600
	// DefaultBackoffLimit is the number of attempts after the first (image-pulling 3.1).
	DefaultBackoffLimit = 3
	// MaxImages is the number of image names that one NodeImage may have (image-pulling 3.3).
	MaxImages = 256
	// MaxTags is the number of tags of one image that jobs may put on a node (security 5.12).
	MaxTags = 64

	day              = 24 * 60 * 60
	minDailyDeadline = 30 * 60
	dailySpread      = 10 * 60
	alwaysSpread     = 5 * 60
	imagePullJobKind = "ImagePullJob"
	noVersion        = int64(-1)
)

// ownerPhase says how far a job that owns a task has got, as far as the task's other owners must know.
type ownerPhase int

const (
	ownerUnknown  ownerPhase = iota // not one of our jobs, or unreadable
	ownerGone                       // not found, or another object of that name
	ownerActive                     // runs and will complete
	ownerDaily                      // runs for ever: the task's end of life is its next day
	ownerComplete                   // has its result
)

// request is what one job wants of each of its nodes.
type request struct {
	job     *appsv1beta1.ImagePullJob
	image   reference.Image
	secrets []appsv1beta1.ReferenceObject
	// owner tells about other owners of a task, by UID.
	owner func(corev1.ObjectReference) ownerPhase
	// alwaysTTL is --default-ttlseconds-for-always-nodeimage, in seconds.
	alwaysTTL int32
	now       time.Time
}

// policy returns what the job asks of the task on one node. The spread of the time to live comes from the names, so that
// the same job asks for the same on every look (image-pulling 5.4, W8).
func (r *request) policy(node string) *appsv1beta1.ImageTagPullPolicy {
	timeout, backoff := int32(DefaultTimeoutSeconds), int32(DefaultBackoffLimit)
	p := &appsv1beta1.ImageTagPullPolicy{}
	if own := r.job.Spec.PullPolicy; own != nil {
		p.TimeoutSeconds, p.BackoffLimit = own.TimeoutSeconds, own.BackoffLimit
		timeout, backoff = ptr.Deref(own.TimeoutSeconds, timeout), ptr.Deref(own.BackoffLimit, backoff)
	}
	c := &r.job.Spec.CompletionPolicy
	if c.Type == appsv1beta1.Never {
		p.ActiveDeadlineSeconds = ptr.To(max(minDailyDeadline, int64(timeout)*(int64(backoff)+1)))
		p.TTLSecondsAfterFinished = ptr.To(r.repeatSeconds(node))
		return p
	}
	p.ActiveDeadlineSeconds = c.ActiveDeadlineSeconds
	base := int64(timeout) * int64(backoff)
	switch {
	case c.TTLSecondsAfterFinished != nil:
		base = int64(*c.TTLSecondsAfterFinished)
	case c.ActiveDeadlineSeconds != nil:
		base = min(*c.ActiveDeadlineSeconds, math.MaxInt32)
	}
	ttl := base + int64(r.alwaysTTL) + int64(r.spread(node, alwaysSpread))
	p.TTLSecondsAfterFinished = ptr.To(int32(min(max(ttl, 0), math.MaxInt32)))
	return p
}

// spread returns a number in [0, n) that depends on job and node only.
func (r *request) spread(node string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.job.UID)) // never fails
	_, _ = h.Write([]byte(node))
	return int(h.Sum32() % uint32(n))
}

func (r *request) self() corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: appsv1beta1.GroupVersion.String(), Kind: imagePullJobKind,
		Namespace: r.job.Namespace, Name: r.job.Name, UID: r.job.UID,
	}
}

// refusal says why a job can't have its task on a node.
type refusal struct {
	// final means that waiting won't help.
	final  bool
	reason string
}

// join makes the job an owner of the task on a NodeImage, or brings the task it owns up to date with the job. It mutates
// n, but nothing that n shares with a cache, and reports whether anything changed (image-pulling 5.4).
func (r *request) join(n *appsv1beta1.NodeImage) (changed bool, refused *refusal) {
	entry := *ptr.To(n.Spec.Images[r.image.Name]).DeepCopy()
	i := findTag(entry.Tags, r.image.Tag)
	if i >= 0 && ownedBy(&entry.Tags[i], r.job.UID) {
		if isFinished(n, r.image.Name, &entry.Tags[i]) {
			return false, nil // what is done is not touched any more
		}
		r.refresh(n, &entry, i)
	} else {
		if refused := r.mayJoin(n); refused != nil {
			return false, refused
		}
		r.add(n, &entry, i)
	}
	for _, s := range r.secrets {
		if !slices.ContainsFunc(entry.PullSecrets, func(o appsv1beta1.ReferenceObject) bool { return sameSecret(o, s) }) {
			entry.PullSecrets = append(entry.PullSecrets, s)
		}
	}
	if old, ok := n.Spec.Images[r.image.Name]; ok && equality.Semantic.DeepEqual(old, entry) {
		return false, nil
	}
	images := make(map[string]appsv1beta1.ImageSpec, len(n.Spec.Images)+1)
	maps.Copy(images, n.Spec.Images)
	images[r.image.Name] = entry
	n.Spec.Images = images
	return true, nil
}

// mayJoin tells whether the NodeImage has room for the task, and whether the sandboxConfig is ours to set: not if a
// running job of another namespace set a different one (security 5.3.1).
func (r *request) mayJoin(n *appsv1beta1.NodeImage) *refusal {
	entry, exists := n.Spec.Images[r.image.Name]
	if !exists {
		if len(n.Spec.Images) >= MaxImages {
			return &refusal{final: true, reason: "the NodeImage has " + strconv.Itoa(MaxImages) + " images already"}
		}
		return nil
	}
	if len(entry.Tags) >= MaxTags && findTag(entry.Tags, r.image.Tag) < 0 {
		return &refusal{final: true, reason: "the NodeImage has " + strconv.Itoa(MaxTags) + " tags of the image already"}
	}
	if sameSandbox(entry.SandboxConfig, r.job.Spec.SandboxConfig) {
		return nil
	}
	for i := range entry.Tags {
		for _, o := range entry.Tags[i].OwnerReferences {
			if o.Namespace != r.job.Namespace && isJob(o) && running(r.owner(o)) {
				return &refusal{reason: "job " + o.Namespace + "/" + o.Name + " pulls " + r.image.Name + " with another sandboxConfig"}
			}
		}
	}
	return nil
}

// add makes the job an owner of the task, which is entry.Tags[i] or, if i is negative, does not exist yet. A task that
// exists is pulled anew, unless the image has just proved present for a job that still runs, and presence is all this
// job wants: that job would lose its result otherwise (W7).
func (r *request) add(n *appsv1beta1.NodeImage, entry *appsv1beta1.ImageSpec, i int) {
	entry.SandboxConfig = r.job.Spec.SandboxConfig.DeepCopy()
	if i < 0 {
		version := noVersion
		if s := tagStatus(n, r.image.Name, r.image.Tag); s != nil {
			version = s.Version
		}
		entry.Tags = append(entry.Tags, appsv1beta1.ImageTagSpec{
			Tag: r.image.Tag, Version: version + 1, CreatedAt: ptr.To(metav1.NewTime(r.now)),
			OwnerReferences: []corev1.ObjectReference{r.self()},
			PullPolicy:      r.policy(n.Name), ImagePullPolicy: r.job.Spec.ImagePullPolicy,
		})
		slices.SortFunc(entry.Tags, func(a, b appsv1beta1.ImageTagSpec) int { return strings.Compare(a.Tag, b.Tag) })
		return
	}
	task := &entry.Tags[i]
	if !r.presentForOthers(n, task) {
		// A job that is content with what is there must not take the fresh pull from one that still runs (W27).
		if task.ImagePullPolicy == appsv1beta1.PullIfNotPresent || !r.runsFor(task) {
			task.ImagePullPolicy = r.job.Spec.ImagePullPolicy
		}
		task.Version++
		task.CreatedAt = ptr.To(metav1.NewTime(r.now))
	}
	task.OwnerReferences = append(task.OwnerReferences, r.self())
	task.PullPolicy = mergePolicies(task.PullPolicy, r.policy(n.Name))
}

// refresh carries an edit of the job to a task that is still being worked on. Where other jobs share it, only what can
// be merged changes, or two jobs would overwrite each other for ever (W6).
func (r *request) refresh(n *appsv1beta1.NodeImage, entry *appsv1beta1.ImageSpec, i int) {
	task := &entry.Tags[i]
	if len(task.OwnerReferences) > 1 {
		task.PullPolicy = mergePolicies(task.PullPolicy, r.policy(n.Name))
		return
	}
	task.PullPolicy = r.policy(n.Name)
	task.ImagePullPolicy = r.job.Spec.ImagePullPolicy
	if len(entry.Tags) == 1 {
		entry.SandboxConfig = r.job.Spec.SandboxConfig.DeepCopy()
	}
}

// presentForOthers says whether the task has succeeded for a job that still runs, and this job asks for no more.
func (r *request) presentForOthers(n *appsv1beta1.NodeImage, task *appsv1beta1.ImageTagSpec) bool {
	if r.job.Spec.ImagePullPolicy != appsv1beta1.PullIfNotPresent {
		return false
	}
	s := tagStatus(n, r.image.Name, task.Tag)
	if s == nil || s.Version != task.Version || s.Phase != appsv1beta1.ImagePhaseSucceeded {
		return false
	}
	return r.runsFor(task)
}

// runsFor says whether a job that owns the task still runs.
func (r *request) runsFor(task *appsv1beta1.ImageTagSpec) bool {
	return slices.ContainsFunc(task.OwnerReferences, func(o corev1.ObjectReference) bool { return isJob(o) && running(r.owner(o)) })
}

// leave removes the job from every task it owns and no longer wants; keep is the image it still wants, nil for none. A
// task without owners left is removed, and so is an image name without tasks (W6). It mutates n, but nothing that n
// shares with a cache.
func leave(n *appsv1beta1.NodeImage, job types.UID, keep *reference.Image) (changed bool) {
	images := make(map[string]appsv1beta1.ImageSpec, len(n.Spec.Images))
	for name, entry := range n.Spec.Images {
		var tags []appsv1beta1.ImageTagSpec
		for i := range entry.Tags {
			task := entry.Tags[i]
			if !ownedBy(&task, job) || (keep != nil && *keep == reference.Image{Name: name, Tag: task.Tag}) {
				tags = append(tags, task)
				continue
			}
			changed = true
			owners := make([]corev1.ObjectReference, 0, len(task.OwnerReferences))
			for _, o := range task.OwnerReferences {
				if o.UID != job {
					owners = append(owners, o)
				}
			}
			if task.OwnerReferences = owners; len(owners) > 0 {
				tags = append(tags, task)
			}
		}
		if entry.Tags = tags; len(tags) > 0 {
			images[name] = entry
		}
	}
	if changed {
		n.Spec.Images = images
	}
	return changed
}

// mergePolicies returns the more patient of two policies, field by field. No deadline is the longest one.
func mergePolicies(a, b *appsv1beta1.ImageTagPullPolicy) *appsv1beta1.ImageTagPullPolicy {
	if a == nil {
		return b
	}
	m := &appsv1beta1.ImageTagPullPolicy{
		TimeoutSeconds:          ptr.To(max(ptr.Deref(a.TimeoutSeconds, DefaultTimeoutSeconds), ptr.Deref(b.TimeoutSeconds, DefaultTimeoutSeconds))),
		BackoffLimit:            ptr.To(max(ptr.Deref(a.BackoffLimit, DefaultBackoffLimit), ptr.Deref(b.BackoffLimit, DefaultBackoffLimit))),
		TTLSecondsAfterFinished: ptr.To(max(ptr.Deref(a.TTLSecondsAfterFinished, 0), ptr.Deref(b.TTLSecondsAfterFinished, 0))),
	}
	if a.ActiveDeadlineSeconds != nil && b.ActiveDeadlineSeconds != nil {
		m.ActiveDeadlineSeconds = ptr.To(max(*a.ActiveDeadlineSeconds, *b.ActiveDeadlineSeconds))
	}
	return m
}

func findTag(tags []appsv1beta1.ImageTagSpec, tag string) int {
	return slices.IndexFunc(tags, func(t appsv1beta1.ImageTagSpec) bool { return t.Tag == tag })
}

// tagStatus returns what the agent reports of a tag, of whatever version; nil if nothing.
func tagStatus(n *appsv1beta1.NodeImage, name, tag string) *appsv1beta1.ImageTagStatus {
	tags := n.Status.ImageStatuses[name].Tags
	for i := range tags {
		if tags[i].Tag == tag {
			return &tags[i]
		}
	}
	return nil
}

// isFinished says whether the agent, or the manager in its place, is done with this version of the task.
func isFinished(n *appsv1beta1.NodeImage, name string, task *appsv1beta1.ImageTagSpec) bool {
	s := tagStatus(n, name, task.Tag)
	return s != nil && s.Version == task.Version &&
		(s.Phase == appsv1beta1.ImagePhaseSucceeded || s.Phase == appsv1beta1.ImagePhaseFailed)
}

func ownedBy(task *appsv1beta1.ImageTagSpec, job types.UID) bool {
	return slices.ContainsFunc(task.OwnerReferences, func(o corev1.ObjectReference) bool { return o.UID == job })
}

// isJob says whether the reference is to an ImagePullJob, of any version.
func isJob(o corev1.ObjectReference) bool {
	return o.Kind == imagePullJobKind && strings.HasPrefix(o.APIVersion, appsv1beta1.GroupName+"/")
}

func running(p ownerPhase) bool { return p == ownerActive || p == ownerDaily }

func sameSecret(a, b appsv1beta1.ReferenceObject) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name
}

func sameSandbox(a, b *appsv1beta1.SandboxConfig) bool {
	empty := &appsv1beta1.SandboxConfig{}
	if a == nil {
		a = empty
	}
	if b == nil {
		b = empty
	}
	return equality.Semantic.DeepEqual(a, b)
}
