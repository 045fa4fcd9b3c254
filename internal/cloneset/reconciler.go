// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

const (
	// again is when to look again after a write met something newer than the snapshot.
	again = 50 * time.Millisecond
	// refusedRetry is when to try again at the latest what the apiserver refused. The retries of errors become as rare as
	// one in a quarter of an hour, and nothing tells that a quota has room again.
	refusedRetry = time.Minute
	// cleanUpRetry is when to try again what failed and is no error of the reconcile.
	cleanUpRetry = time.Second
	// timeout bounds how long a reconcile waits for the cache to show its own writes, and for its writes to be answered.
	timeout = 60 * time.Second
	// reportTimeout bounds how long it reports what came of them.
	reportTimeout = 20 * time.Second
)

// errTerminating says that nothing can be created any more because the namespace is being deleted.
var errTerminating = errors.New("the namespace is being deleted: nothing is created in it any more, and pods are neither updated nor removed")

// errBehind says that the cache does not show yet what was done before, by a former leader or without an answer.
var errBehind = errors.New("the cache is behind")

func logOf(ctx context.Context) logr.Logger { return logf.FromContext(ctx) }

// reconciler brings one CloneSet at a time nearer to its spec.
type reconciler struct {
	// client reads from the cache, its own writes included, and writes.
	client client.Client
	// takeover lists pods from the apiserver; nil lists none.
	takeover client.Reader
	// nodes reads nodes from the cache; nil reads none.
	nodes client.Reader
	exec  *executor
	gates Gates
	// budgetAllows asks a pod's disruption budget; nil allows all.
	budgetAllows func(context.Context, *corev1.Pod) (bool, string)
	now          func() time.Time
	memory       *memory
	// timeout is that of the constant, or what a test puts in its place.
	timeout time.Duration
	// later asks for another look after a while, beside the retry of an error; nil asks for none.
	later func(ctrl.Request, time.Duration)
}

// Reconcile observes, plans, acts and reports (cloneset 5.1).
func (r *reconciler) Reconcile(parent context.Context, req ctrl.Request) (ctrl.Result, error) {
	ctx, cancel := context.WithTimeout(parent, r.timeout)
	defer cancel()
	cs := &appsv1beta1.CloneSet{}
	if err := r.client.Get(ctx, req.NamespacedName, cs); err != nil {
		if apierrors.IsNotFound(err) {
			r.memory.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	selector, err := selectorOf(cs)
	if err != nil {
		r.exec.recorder.Eventf(cs, corev1.EventTypeWarning, "InvalidSelector", "the CloneSet is left alone: %v", err)
		return ctrl.Result{}, nil
	}
	snapshot, err := r.observe(ctx, cs, selector)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || errors.Is(err, errTerminating) {
		r.memory.terminate(req.NamespacedName, cs.UID)
		return ctrl.Result{}, nil // without the revision of the present template there is nothing to plan with
	}
	if errors.Is(err, errBehind) {
		return ctrl.Result{RequeueAfter: 2 * again}, nil
	}
	if err != nil {
		return ctrl.Result{}, r.reportBlocked(ctx, cs, err)
	}
	if unseen, err := r.unseen(ctx, cs, snapshot); unseen || err != nil {
		return ctrl.Result{RequeueAfter: 2 * again}, err
	}
	decision := Plan(*snapshot)
	if late, err := r.late(ctx, snapshot, &decision); late || err != nil {
		return ctrl.Result{RequeueAfter: 2 * again}, err
	}
	outcome := r.exec.act(ctx, cs, &decision, r.memory.speed(req.NamespacedName, cs.UID, r.now()))
	r.memory.reached(req.NamespacedName, cs.UID, outcome.speed, r.now())
	if outcome.terminating = outcome.terminating || snapshot.NamespaceTerminating; outcome.terminating {
		r.memory.terminate(req.NamespacedName, cs.UID)
	}
	// Writes that used up the time are what the status has to tell.
	ctx, cancelReport := context.WithTimeout(parent, reportTimeout)
	defer cancelReport()
	result, err := r.report(ctx, cs, &decision, &outcome)
	if err != nil {
		// The result of a failure is ignored, and its retries become rare. A pod that can't be dealt with must not keep
		// the timers of the others from running (weakness 18).
		if result.RequeueAfter > 0 && r.later != nil {
			r.later(req, result.RequeueAfter)
		}
		return ctrl.Result{}, brief{err}
	}
	return result, nil
}

// selectorOf returns spec.selector. An object that admission did not see may have one that does not match the pods that
// are made for it: they would be released and replaced for ever.
func selectorOf(cs *appsv1beta1.CloneSet) (labels.Selector, error) {
	if cs.Spec.Selector == nil {
		return nil, errors.New("spec.selector is missing")
	}
	selector, err := metav1.LabelSelectorAsSelector(cs.Spec.Selector)
	switch {
	case err != nil:
		return nil, fmt.Errorf("spec.selector: %w", err)
	case selector.Empty():
		return nil, errors.New("spec.selector is empty")
	case !selector.Matches(labels.Set(cs.Spec.Template.Labels)):
		return nil, errors.New("spec.selector does not match the labels of spec.template")
	}
	return selector, nil
}

// observe takes the snapshot. It also stores the revision of the present template, without which there is nothing to
// plan with.
func (r *reconciler) observe(ctx context.Context, cs *appsv1beta1.CloneSet, selector labels.Selector) (*Snapshot, error) {
	s := &Snapshot{
		CloneSet: cs,
		Selector: selector,
		Gates:    r.gates,
		Decide:   r.memory.step(client.ObjectKeyFromObject(cs), cs.UID),
		TakenIDs: r.memory.taken(client.ObjectKeyFromObject(cs), cs.UID),
		Refused:  r.memory.refused(client.ObjectKeyFromObject(cs), cs.UID),

		RefusedResizes:       r.memory.refusedResizes(client.ObjectKeyFromObject(cs), cs.UID),
		NamespaceTerminating: r.memory.terminates(client.ObjectKeyFromObject(cs), cs.UID),
	}
	mine := []client.ListOption{
		client.InNamespace(cs.Namespace), client.MatchingFields{pod.OwnerUIDField: string(cs.UID)}, client.UnsafeDisableDeepCopy,
	}
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, mine...); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	s.Pods = pointers(pods.Items)
	if ok, err := r.caughtUp(ctx, cs, selector, s.Pods); err != nil {
		return nil, err
	} else if !ok {
		return nil, errBehind
	}
	r.memory.observed(client.ObjectKeyFromObject(cs), cs.UID, len(s.Pods))
	var claims corev1.PersistentVolumeClaimList
	if err := r.client.List(ctx, &claims, mine...); err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	s.Claims = pointers(claims.Items)
	if err := r.observeRevisions(ctx, cs, s); err != nil {
		return nil, err
	}
	if r.gates.PreDownload {
		var jobs appsv1beta1.ImagePullJobList
		if err := r.client.List(ctx, &jobs, mine...); err != nil {
			return nil, fmt.Errorf("list image pull jobs: %w", err)
		}
		for i := range jobs.Items {
			if metav1.IsControlledBy(&jobs.Items[i], cs) && jobs.Items[i].DeletionTimestamp == nil {
				s.PullJobs = append(s.PullJobs, jobs.Items[i].Name)
			}
		}
	}
	if r.nodes != nil {
		s.NodeLabels = r.nodeLabels(ctx)
	}
	if r.budgetAllows != nil {
		s.BudgetAllows = func(p *corev1.Pod) (bool, string) { return r.budgetAllows(ctx, p) }
	}
	s.Now = r.now()
	return s, nil
}

// observeRevisions resolves the revisions and stores the update revision if it is new (cloneset 5.3).
func (r *reconciler) observeRevisions(ctx context.Context, cs *appsv1beta1.CloneSet, s *Snapshot) error {
	candidates, err := revision.List(ctx, r.client, cs.Namespace, cs.UID, s.Selector)
	if err != nil {
		return err
	}
	if late, err := r.historyLate(ctx, cs, s, candidates); err != nil {
		return err
	} else if late {
		return errBehind
	}
	data, err := r.memory.data(cs)
	if err != nil {
		return fmt.Errorf("resolve revisions: %w", err)
	}
	owner := revision.Owner{
		Data:           data,
		Object:         cs,
		GVK:            appsv1beta1.GroupVersion.WithKind("CloneSet"),
		Template:       &cs.Spec.Template,
		Current:        cs.Status.CurrentRevision,
		CollisionCount: cs.Status.CollisionCount,
		Claims:         cs.Spec.VolumeClaimTemplates,
		ClaimHashKey:   revision.ClaimHashAnnotation,
	}
	plan, err := revision.NewPlan(owner, candidates)
	if err != nil {
		return fmt.Errorf("resolve revisions: %w", err)
	}
	if s.NamespaceTerminating && plan.Write == revision.Create {
		return errTerminating
	}
	if cs.DeletionTimestamp == nil && !s.NamespaceTerminating {
		if plan.Write == revision.Create {
			r.memory.comes(client.ObjectKeyFromObject(cs), cs.UID, plan.Update.Name)
		}
		err := r.exec.revisions.Apply(ctx, owner, plan)
		if apierrors.IsConflict(err) {
			return errBehind
		}
		if err != nil {
			return err
		}
	}
	s.Revisions = Revisions{Current: plan.Current, Update: plan.Update, All: plan.Revisions, CollisionCount: cs.Status.CollisionCount}
	if plan.CollisionCount != ptr.Deref(cs.Status.CollisionCount, 0) || cs.Status.CollisionCount != nil {
		s.Revisions.CollisionCount = ptr.To(plan.CollisionCount)
	}
	return nil
}

func (r *reconciler) nodeLabels(ctx context.Context) func(string) (map[string]string, bool) {
	return func(name string) (map[string]string, bool) {
		var node corev1.Node
		if err := r.nodes.Get(ctx, client.ObjectKey{Name: name}, &node, client.UnsafeDisableDeepCopy); err != nil {
			return nil, false
		}
		return node.Labels, true
	}
}

// unseen says whether there is a pod whose creation was not answered and that the cache does not show yet. A plan without
// it would create another in its place: its name may have changed since, with the version of the CloneSet or because
// its claims, which the cache shows, take its id.
func (r *reconciler) unseen(ctx context.Context, cs *appsv1beta1.CloneSet, s *Snapshot) (bool, error) {
	key := client.ObjectKeyFromObject(cs)
	names := r.memory.unsettled(key, cs.UID)
	if len(names) == 0 {
		return false, nil
	}
	for _, p := range s.Pods {
		delete(names, p.Name)
	}
	for name := range names {
		var p corev1.Pod
		err := r.exec.live.Get(ctx, client.ObjectKey{Namespace: cs.Namespace, Name: name}, &p)
		if client.IgnoreNotFound(err) != nil {
			return true, fmt.Errorf("look for pod %s/%s, which was created without an answer: %w", cs.Namespace, name, err)
		}
		if err != nil || !metav1.IsControlledBy(&p, cs) {
			delete(names, name)
		}
	}
	r.memory.settle(key, cs.UID, names)
	return len(names) > 0, nil
}

// reportBlocked tells the user why there is nothing to plan with, if the apiserver says why: it refuses the revision of the
// present template. It returns err, and what else went wrong.
func (r *reconciler) reportBlocked(ctx context.Context, cs *appsv1beta1.CloneSet, err error) error {
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsRequestEntityTooLargeError(err) {
		return err
	}
	r.exec.recorder.Event(cs, corev1.EventTypeWarning, "FailedUpdate", err.Error())
	status := cs.Status.DeepCopy()
	setCondition(status, appsv1beta1.CloneSetCondition{
		Type: appsv1beta1.CloneSetConditionFailedUpdate, Status: corev1.ConditionTrue, Reason: reasonUpdateFailed, Message: shorten(err),
	}, r.now(), false)
	_, statusErr := r.writeStatus(ctx, cs, status)
	return errors.Join(err, statusErr)
}

// report writes the status and what else depends on the outcome, and says when to look again. The result is also meant
// if there is an error.
func (r *reconciler) report(ctx context.Context, cs *appsv1beta1.CloneSet, d *Decision, o *outcome) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(cs)
	r.memory.take(key, cs.UID, o.taken)
	r.memory.refuseResizes(key, cs.UID, o.resizes, r.now())
	refused := o.scaleErr != nil && !o.scaled
	r.memory.refuse(key, cs.UID, refused)
	if logger := logOf(ctx).V(4); logger.Enabled() && (d.Changes() || len(d.Waits) > 0) {
		logger.Info("Reconciled", "edits", len(d.Edits), "creates", len(d.Create), "deletes", len(d.Delete), "waits", d.Waits)
	}
	result := ctrl.Result{RequeueAfter: d.RequeueAfter}
	sooner := func(after time.Duration) {
		if after > 0 && (result.RequeueAfter == 0 || after < result.RequeueAfter) {
			result.RequeueAfter = after
		}
	}
	if refused {
		sooner(refusedRetry)
	}
	if (o.more || d.More) && o.scaleErr == nil && o.updateErr == nil {
		sooner(time.Millisecond)
	}
	if o.unanswered {
		r.memory.lostAnswer(key, cs.UID, r.now())
	}
	r.memory.created(key, cs.UID, o.unsettled)
	if len(o.unsettled) > 0 {
		if o.scaleErr == nil && o.updateErr == nil {
			sooner(2 * again)
		}
		return result, errors.Join(o.scaleErr, o.updateErr)
	}
	if failed := o.scaleErr != nil || o.updateErr != nil; !failed && (o.again || len(o.taken) > 0) {
		sooner(again) // a failure is retried anyway, with backoff
	}
	stalled := d.stalled()
	report, look := r.memory.stall(key, cs.UID, stalled, r.now())
	if report {
		r.exec.recorder.Event(cs, corev1.EventTypeNormal, "RolloutWaiting", stalled)
	}
	sooner(look)
	scaleErr := o.scaleErr
	if o.terminating {
		scaleErr = errTerminating // no failure to retry, but what the status says
	}
	reportFailures(&d.Status, scaleErr, o.updateErr, r.now())
	left, statusErr := r.writeStatus(ctx, cs, &d.Status)
	sooner(left)
	if d.TrimPodsToDelete && !r.trimPodsToDelete(ctx, cs, d.PodsToDelete) {
		sooner(cleanUpRetry)
	}
	if left := r.memory.doubt(key, cs.UID, r.now()); left > 0 && len(d.DeleteRevisions) > 0 {
		sooner(left)
	} else if len(d.DeleteRevisions) > 0 {
		if err := r.exec.revisions.Delete(ctx, d.DeleteRevisions); err != nil {
			logOf(ctx).Error(err, "Failed to truncate the history")
			sooner(cleanUpRetry)
		}
	}
	return result, errors.Join(o.scaleErr, o.updateErr, statusErr)
}

// trimPodsToDelete writes the names that are left, if nobody changed the CloneSet meanwhile (weakness 24). It says whether
// that worked, or is not needed any more.
func (r *reconciler) trimPodsToDelete(ctx context.Context, cs *appsv1beta1.CloneSet, names []string) bool {
	// The status write before this one changed the version, and nothing else.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": cs.ResourceVersion},
		"spec":     map[string]any{"scaleStrategy": map[string]any{"podsToDelete": names}}, // null for none
	})
	if err == nil {
		wanted := &appsv1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: cs.Namespace, Name: cs.Name}}
		err = r.client.Patch(ctx, wanted, client.RawPatch(types.MergePatchType, patch))
	}
	if err != nil && !apierrors.IsNotFound(err) {
		if !apierrors.IsConflict(err) {
			logOf(ctx).Error(err, "Failed to remove vanished names from podsToDelete")
		}
		return false
	}
	return true
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
