// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/revision"
)

const (
	// parallelism bounds the writes of one kind that one reconcile has in flight.
	parallelism = 32
	// slice is how long one reconcile begins writes of a kind. What is left comes with the next one, which follows at
	// once. A large CloneSet would otherwise write for seconds on what it saw at their beginning, and the pods that got
	// their node meanwhile, or ended their restart, would wait for the last of the others.
	slice = 250 * time.Millisecond
)

// executor writes what a plan decided.
type executor struct {
	// client writes, and reads its own writes.
	client client.Client
	// live reads from the apiserver, to settle name clashes and lost answers.
	live      client.Reader
	pods      *pod.Writer
	revisions *revision.Writer
	recorder  record.EventRecorder
	gates     Gates
	now       func() time.Time
	// parallel is inParallel, or what a simulation puts in its place.
	parallel func(n int, goOn func() bool, f func(i int)) int
}

// outcome is what came of a decision.
type outcome struct {
	// scaleErr and updateErr are the failures of the writes, refusals by rule included: the lists, joined.
	scaleErr, updateErr   error
	scaleErrs, updateErrs []error
	// scaled: a pod was added, removed, or asked to go, or may have been.
	scaled bool
	// resizes are those that the apiserver refused, by the UID of the pod.
	resizes map[types.UID]RefusedResize
	// taken are instance ids that turned out to be in use by foreign objects.
	taken []string
	// again asks for another look soon: something was not as the plan supposed.
	again bool
	// more says that the decision was not carried out to its end, because that took long: look again at once.
	more bool
	// unanswered: a write to a pod may have happened, and the cache may not show it yet.
	unanswered bool
	// terminating: the apiserver refuses to create anything because the namespace is being deleted.
	terminating bool
	// speed is how many pods may be created at once next time.
	speed int
	// unsettled names the pods that exist, or may, and that the cache may not show yet. Nothing that changes the names of new
	// pods may be written before it does.
	unsettled []string
}

func (o *outcome) fail(scaling bool, errs ...error) {
	if scaling {
		o.scaleErrs = append(o.scaleErrs, errs...)
	} else {
		o.updateErrs = append(o.updateErrs, errs...)
	}
}

// join makes one error of each list: once, because errors that are joined one by one cost the square of their number.
func (o *outcome) join() {
	o.scaleErr, o.updateErr = errors.Join(o.scaleErrs...), errors.Join(o.updateErrs...)
}

// act makes the writes of a decision in its order. Independent writes of a kind go out in parallel; a failure is reported
// and does not stop the others, but for creates (see createAll).
//
// speed is how many creates may be in flight from the beginning, from the outcome of the last act; 0 and 1 mean one.
func (e *executor) act(ctx context.Context, cs *appsv1beta1.CloneSet, d *Decision, speed int) outcome {
	o := outcome{speed: speed}
	o.fail(true, d.ScaleErrors...)
	o.fail(false, d.UpdateErrors...)
	for _, event := range d.Events {
		if event.Pod != nil {
			e.recorder.Event(event.Pod.DeepCopy(), event.Type, event.Reason, event.Message)
		} else {
			e.recorder.Event(cs, event.Type, event.Reason, event.Message)
		}
	}
	claimsOK := e.changeClaims(ctx, cs, d.Claims, &o)
	e.editAll(ctx, cs, d.Edits, claimsOK, &o)
	e.createAll(ctx, cs, d.Create, &o)
	e.deleteAll(ctx, cs, d.Delete, &o)
	e.preDownload(ctx, cs, d)
	o.join()
	return o
}

// inParallel calls f for 0 to n-1, a bounded number at a time, until goOn says no, and waits for those that were begun. It
// returns how many these are. The first is always called; goOn may be nil.
func inParallel(n int, goOn func() bool, f func(i int)) int {
	if n <= 1 {
		if n == 1 {
			f(0)
		}
		return n
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, parallelism) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	begun := 0
	for ; begun < n && (begun == 0 || goOn == nil || goOn()); begun++ {
		next <- begun
	}
	close(next)
	wg.Wait()
	return begun
}

// inTime says whether to begin another write: for the time of a slice, unless one failed. Pods whose writes fail come
// first again next time, so those behind them must have their turn now (weakness 18).
func (e *executor) inTime(failed *atomic.Bool) func() bool {
	began := e.now()
	return func() bool { return failed.Load() || e.now().Sub(began) < slice }
}

// editAll writes the pod edits. Releases wait for the claims that go with the pod.
func (e *executor) editAll(ctx context.Context, cs *appsv1beta1.CloneSet, edits []PodEdit, claimsOK bool, o *outcome) {
	errs := make([]error, len(edits))
	var failed atomic.Bool
	begun := e.parallel(len(edits), e.inTime(&failed), func(i int) {
		if edits[i].Kind == EditRelease && !claimsOK {
			return
		}
		if errs[i] = e.editPod(ctx, cs, &edits[i]); errs[i] != nil {
			failed.Store(true)
		}
	})
	o.more = o.more || begun < len(edits)
	for i := range edits[:begun] {
		switch err := errs[i]; {
		case err == nil:
			o.scaled = o.scaled || edits[i].Kind.scaling()
			e.edited(cs, &edits[i])
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
			o.again = true // the pod went away or changed: look again
		default:
			o.unanswered = o.unanswered || mayHaveHappened(err)
			e.editFailed(cs, &edits[i], err)
			if edits[i].Kind == EditInPlace && inplace.ResizeRefused(err) {
				o.refuseResize(edits[i].Pod.UID, RefusedResize{Revision: edits[i].Revision, Until: e.now().Add(resizeRetry), Why: err.Error()})
			}
			o.fail(edits[i].Kind.scaling(), err)
		}
	}
}

func (e *executor) editPod(ctx context.Context, cs *appsv1beta1.CloneSet, edit *PodEdit) error {
	_, err := e.pods.Apply(ctx, edit.Pod, edit.Edits...)
	if err == nil || edit.Kind != EditInPlace || !inplace.ResizeRefused(err) {
		return err
	}
	// The node could never give what is asked for: as if the node had said so (inplace-update weakness 5).
	if inplace.ResizeImpossible(err) && policyOf(cs) == appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType {
		e.editFailed(cs, edit, err)
		edit.Kind = EditRecreate
		_, markErr := e.pods.Apply(ctx, edit.Pod, markForDeletion(edit.Pod))
		return markErr
	}
	var live corev1.Pod
	if getErr := e.live.Get(ctx, client.ObjectKeyFromObject(edit.Pod), &live); getErr != nil {
		return errors.Join(err, getErr)
	}
	undo, cancelErr := inplace.Cancel(&live, e.gates.inPlace(cs), e.now())
	if cancelErr == nil && live.UID == edit.Pod.UID {
		_, cancelErr = e.pods.Apply(ctx, &live, undo.Edits...)
	}
	return errors.Join(err, cancelErr)
}

// edited reports an edit that was written.
func (e *executor) edited(cs *appsv1beta1.CloneSet, edit *PodEdit) {
	switch edit.Kind {
	case EditInPlace:
		e.recorder.Eventf(cs, corev1.EventTypeNormal, "SuccessfulUpdatePodInPlace", "updated pod %s in place to revision %s", edit.Pod.Name, edit.Revision)
	case EditRecreate:
		e.recorder.Eventf(cs, corev1.EventTypeNormal, "SuccessfulUpdatePodReCreate", "marked pod %s to be recreated at revision %s", edit.Pod.Name, edit.Revision)
	}
}

// editFailed reports an edit that was refused.
func (e *executor) editFailed(cs *appsv1beta1.CloneSet, edit *PodEdit, err error) {
	switch edit.Kind {
	case EditInPlace:
		e.recorder.Eventf(cs, corev1.EventTypeWarning, "FailedUpdatePodInPlace", "failed to update pod %s in place to revision %s: %v", edit.Pod.Name, edit.Revision, err)
	case EditRecreate:
		e.recorder.Eventf(cs, corev1.EventTypeWarning, "FailedUpdatePodReCreate", "failed to mark pod %s to be recreated at revision %s: %v", edit.Pod.Name, edit.Revision, err)
	}
}

// deleteAll deletes pods, and after each its claims. Every delete names the UID (weakness 23), and the version where more
// than that was relied on.
func (e *executor) deleteAll(ctx context.Context, cs *appsv1beta1.CloneSet, deletions []Deletion, o *outcome) {
	errs := make([]error, len(deletions))
	var failed atomic.Bool
	begun := e.parallel(len(deletions), e.inTime(&failed), func(i int) {
		if errs[i] = e.deletePod(ctx, cs, &deletions[i]); errs[i] != nil {
			failed.Store(true)
		}
	})
	o.more = o.more || begun < len(deletions)
	for _, err := range errs[:begun] {
		switch {
		case err == nil:
			o.scaled = true
		case apierrors.IsConflict(err):
			o.again = true
		default:
			o.fail(true, err)
		}
	}
}

func (e *executor) deletePod(ctx context.Context, cs *appsv1beta1.CloneSet, d *Deletion) error {
	if d.MarkClaims {
		if err := e.markClaims(ctx, cs, d); err != nil {
			return err
		}
	}
	pd := &corev1.Pod{}
	pd.Namespace, pd.Name, pd.UID = d.Pod.Namespace, d.Pod.Name, d.Pod.UID
	condition := client.Preconditions{UID: &d.Pod.UID}
	if d.IfUnchanged {
		condition.ResourceVersion = &d.Pod.ResourceVersion
	}
	err := e.client.Delete(ctx, pd, condition)
	switch {
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		return err
	case err != nil:
		e.recorder.Eventf(cs, corev1.EventTypeWarning, "FailedDelete", "failed to delete pod %s: %v", d.Pod.Name, err)
		return fmt.Errorf("delete pod %s/%s: %w", d.Pod.Namespace, d.Pod.Name, err)
	default:
		e.recorder.Eventf(cs, corev1.EventTypeNormal, "SuccessfulDelete", "deleted pod %s (%s)", d.Pod.Name, d.Reason)
	}
	var errs []error
	for _, c := range d.Claims {
		errs = append(errs, e.deleteClaim(ctx, cs, c))
	}
	return errors.Join(errs...)
}

// markClaims notes on the claims of a pod that they go with it, so that nobody reuses them if the process ends halfway.
func (e *executor) markClaims(ctx context.Context, cs *appsv1beta1.CloneSet, d *Deletion) error {
	for _, c := range d.Claims {
		if c.Annotations[GoesWithKey] == string(d.Pod.UID) {
			continue
		}
		wanted := c.DeepCopy()
		wanted.Annotations = withLabels(wanted.Annotations, map[string]string{GoesWithKey: string(d.Pod.UID)})
		if err := e.patchClaim(ctx, cs, c, wanted); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func (e *executor) deleteClaim(ctx context.Context, cs *appsv1beta1.CloneSet, c *corev1.PersistentVolumeClaim) error {
	claim := &corev1.PersistentVolumeClaim{}
	claim.Namespace, claim.Name, claim.UID = c.Namespace, c.Name, c.UID
	err := e.client.Delete(ctx, claim, client.Preconditions{UID: &c.UID})
	if client.IgnoreNotFound(err) == nil {
		return nil
	}
	e.recorder.Eventf(cs, corev1.EventTypeWarning, "FailedDelete", "failed to delete claim %s: %v", c.Name, err)
	return fmt.Errorf("delete claim %s/%s: %w", c.Namespace, c.Name, err)
}

// changeClaims hands claims over, marks or deletes them. It says whether all of it worked.
func (e *executor) changeClaims(ctx context.Context, cs *appsv1beta1.CloneSet, changes []ClaimChange, o *outcome) bool {
	errs := make([]error, len(changes))
	e.parallel(len(changes), nil, func(i int) { errs[i] = e.changeClaim(ctx, cs, &changes[i]) })
	ok := true
	for _, err := range errs {
		switch {
		case err == nil:
			continue
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
			o.again = true
		default:
			o.fail(true, err)
		}
		ok = false
	}
	return ok
}

func (e *executor) changeClaim(ctx context.Context, cs *appsv1beta1.CloneSet, change *ClaimChange) error {
	if change.Owner == nil && !change.Keep {
		used, err := e.inUse(ctx, cs, change.Claim)
		switch {
		case err != nil || used != change.Stay:
			return err // it is not as the cache shows it
		case !change.Stay:
			return e.deleteClaim(ctx, cs, change.Claim)
		}
	}
	wanted := change.Claim.DeepCopy()
	switch {
	case change.Stay:
		delete(wanted.Annotations, GoesWithKey)
	case change.Keep:
		wanted.Labels = withLabels(wanted.Labels, map[string]string{appsv1beta1.CloneSetKeepPVCForDeletionKey: "true"})
	default:
		for i := range wanted.OwnerReferences {
			if wanted.OwnerReferences[i].UID == cs.UID {
				wanted.OwnerReferences[i] = podReference(change.Owner)
			}
		}
	}
	return e.patchClaim(ctx, cs, change.Claim, wanted)
}

// patchClaim writes a change on the very version of the claim that was examined. A conflict and a claim that is gone are
// returned as they are.
func (e *executor) patchClaim(ctx context.Context, cs *appsv1beta1.CloneSet, c, wanted *corev1.PersistentVolumeClaim) error {
	err := e.client.Patch(ctx, wanted, client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{}))
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		e.recorder.Eventf(cs, corev1.EventTypeWarning, "FailedUpdate", "failed to change claim %s: %v", c.Name, err)
		return fmt.Errorf("change claim %s/%s: %w", c.Namespace, c.Name, err)
	}
	return err
}

// inUse asks the apiserver whether the pod of a claim lives after all. The pods that a reconcile sees may be older than
// the claims: after a lost answer, or in a manager that has just become leader. A deleted claim can't be taken back, and a
// pod whose claim terminates never starts.
func (e *executor) inUse(ctx context.Context, cs *appsv1beta1.CloneSet, claim *corev1.PersistentVolumeClaim) (bool, error) {
	var pd corev1.Pod
	err := e.live.Get(ctx, client.ObjectKey{Namespace: cs.Namespace, Name: cs.Name + "-" + claimID(cs, claim)}, &pd)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for the pod of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return pod.IsActive(&pd) && metav1.IsControlledBy(&pd, cs), nil
}

// preDownload creates and deletes image pull jobs and records the decision. Its failures are reported but never hold up
// the reconcile (cloneset 5.12).
func (e *executor) preDownload(ctx context.Context, cs *appsv1beta1.CloneSet, d *Decision) {
	failed := false
	for _, job := range d.PullJobs.Create {
		err := e.client.Create(ctx, job)
		switch {
		case err == nil:
			e.recorder.Eventf(cs, corev1.EventTypeNormal, "CreatedImagePullJob", "created ImagePullJob %s for image %s", job.Name, job.Spec.Image)
		case !apierrors.IsAlreadyExists(err):
			failed = true
			e.recorder.Eventf(cs, corev1.EventTypeNormal, "FailedCreateImagePullJob", "failed to create ImagePullJob %s: %v", job.Name, err)
		}
	}
	for _, name := range d.PullJobs.Delete {
		job := &appsv1beta1.ImagePullJob{}
		job.Namespace, job.Name = cs.Namespace, name
		if err := e.client.Delete(ctx, job, client.PropagationPolicy("Background")); client.IgnoreNotFound(err) != nil {
			logOf(ctx).Error(err, "Failed to delete an ImagePullJob", "job", name)
		}
	}
	if failed {
		return // the revision is labelled when all jobs exist
	}
	for _, change := range d.RevisionLabels {
		wanted := change.Revision.DeepCopy()
		wanted.Labels = merged(wanted.Labels, change.Labels)
		wanted.Annotations = merged(wanted.Annotations, change.Annotations)
		if err := e.client.Patch(ctx, wanted, client.MergeFrom(change.Revision)); client.IgnoreNotFound(err) != nil {
			logOf(ctx).Error(err, "Failed to label a ControllerRevision", "revision", change.Revision.Name)
		}
	}
}

// merged sets the given keys; an empty value removes the key.
func merged(m, changes map[string]string) map[string]string {
	if m == nil {
		m = make(map[string]string, len(changes))
	}
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(k, v string) bool {
		_, ours := changes[k]
		return ours && v == ""
	})
	return m
}
