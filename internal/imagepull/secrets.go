// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
)

// secretPeriod is how long pull secrets of a job are not read again: unless Config.WatchSecrets is set, the manager may
// get, but not watch, the secrets of users (security 5.1).
const secretPeriod = 5 * time.Minute

// secretKeeper copies pull secrets to where agents may read them. What it remembers only saves reads.
type secretKeeper struct {
	Config
	mu    sync.Mutex
	known map[types.UID]syncedSecrets
}

type syncedSecrets struct {
	at         time.Time
	generation int64 // of the job then: its image decides what is copied
	failed     int32 // nodes that had failed then
	references []appsv1beta1.ReferenceObject
	problem    string
}

// sync makes the copies for a running job and returns what NodeImages must refer to, and what is wrong with the job's
// secrets as text for its message. Secrets are read again after five minutes and when nodes failed since.
func (k *secretKeeper) sync(ctx context.Context, job *appsv1beta1.ImagePullJob) (syncedSecrets, error) {
	if len(job.Spec.PullSecrets) == 0 {
		return syncedSecrets{}, nil
	}
	ctx = quiet(ctx)
	now := k.now()
	k.mu.Lock()
	known, ok := k.known[job.UID]
	k.mu.Unlock()
	if ok && now.Sub(known.at) < secretPeriod && job.Status.Failed <= known.failed && job.Generation == known.generation {
		return known, nil
	}
	s := &secretSnapshot{
		job: client.ObjectKeyFromObject(job), wanted: job.Spec.PullSecrets,
		namespace: k.ConfigNamespace, types: k.SecretTypes, images: k.images(ctx), broker: k.Broker,
	}
	if job.Namespace != k.ConfigNamespace || k.Broker {
		if !k.Broker && !k.namespaceServes(ctx) {
			return known, fmt.Errorf("namespace %s, which pull secrets are copied to, does not exist or is being deleted", k.ConfigNamespace)
		}
		if err := k.observe(ctx, s); err != nil {
			return known, err
		}
	}
	d := planSecrets(s)
	if err := k.act(ctx, d); err != nil {
		return known, fmt.Errorf("pull secrets of ImagePullJob %s: %w", s.job, err)
	}
	synced := syncedSecrets{at: now, generation: job.Generation, failed: job.Status.Failed, references: d.references, problem: problemOf(d)}
	if len(d.unsupported) > 0 {
		k.Recorder.Eventf(job, nil, corev1.EventTypeWarning, "UnsupportedPullSecretType", "SyncPullSecrets",
			"Secrets %s have no type of registry credentials and are not used", strings.Join(d.unsupported, ", "))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = map[types.UID]syncedSecrets{}
	}
	k.known[job.UID] = synced
	return synced, nil
}

// forget has the secrets of a job read again at its next turn.
func (k *secretKeeper) forget(job types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.known, job)
}

// quiet keeps the client library from logging the secrets that it reads and writes (security 5.11).
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

func (k *secretKeeper) observe(ctx context.Context, s *secretSnapshot) error {
	s.sources = make(map[string]*corev1.Secret, len(s.wanted))
	for _, name := range s.wanted {
		secret := &corev1.Secret{}
		err := k.Live.Get(ctx, types.NamespacedName{Namespace: s.job.Namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading pull secret %s/%s: %w", s.job.Namespace, name, err)
		}
		s.sources[name] = secret
	}
	if k.Broker {
		return nil
	}
	copies, err := k.copies(ctx)
	s.copies = copies
	return err
}

func (k *secretKeeper) copies(ctx context.Context) ([]corev1.Secret, error) {
	list := &corev1.SecretList{}
	if err := k.Live.List(ctx, list, client.InNamespace(k.ConfigNamespace)); err != nil {
		return nil, fmt.Errorf("listing the secrets of namespace %s: %w", k.ConfigNamespace, err)
	}
	return slices.DeleteFunc(list.Items, func(s corev1.Secret) bool { return s.DeletionTimestamp != nil }), nil
}

func (k *secretKeeper) namespaceServes(ctx context.Context) bool {
	ns := &corev1.Namespace{}
	err := k.Plain.Get(ctx, types.NamespacedName{Name: k.ConfigNamespace}, ns)
	return err == nil && ns.DeletionTimestamp == nil
}

// release gives back the copies of a job that is complete or being deleted. Without the namespace there is nothing to
// give back (W11).
func (k *secretKeeper) release(ctx context.Context, job *appsv1beta1.ImagePullJob) error {
	k.mu.Lock()
	delete(k.known, job.UID)
	k.mu.Unlock()
	if len(job.Spec.PullSecrets) == 0 || job.Namespace == k.ConfigNamespace || k.Broker || !k.namespaceServes(ctx) {
		return nil
	}
	ctx = quiet(ctx)
	s := &secretSnapshot{job: client.ObjectKeyFromObject(job), namespace: k.ConfigNamespace, types: k.SecretTypes, images: k.images(ctx)}
	var err error
	if s.copies, err = k.copies(ctx); err != nil {
		return err
	}
	if err := k.act(ctx, planSecrets(s)); err != nil {
		return fmt.Errorf("releasing the pull secrets of ImagePullJob %s: %w", s.job, err)
	}
	return nil
}

// images returns how to find the images of jobs, nil if copies are not reduced.
func (k *secretKeeper) images(ctx context.Context) func([]string) []string {
	if !k.ReduceSecrets {
		return nil
	}
	return func(jobs []string) (names []string) {
		for _, key := range jobs {
			job := &appsv1beta1.ImagePullJob{}
			if err := k.Client.Get(ctx, splitKey(key), job); err != nil {
				continue // gone, or it claims the secret again
			}
			if image, err := reference.Parse(job.Spec.Image); err == nil {
				names = append(names, image.Name)
			}
		}
		return names
	}
}

// act writes a decision. A copy is deleted only as it was seen, so that a job that claims it meanwhile keeps it (W10).
func (k *secretKeeper) act(ctx context.Context, d *secretDecision) error {
	var errs []error
	for _, c := range d.delete {
		err := k.Plain.Delete(ctx, c, client.Preconditions{UID: ptr.To(c.UID), ResourceVersion: ptr.To(c.ResourceVersion)})
		errs = append(errs, client.IgnoreNotFound(err))
	}
	for _, c := range d.create {
		errs = append(errs, k.Plain.Create(ctx, c))
	}
	for _, c := range d.update {
		errs = append(errs, k.Plain.Update(ctx, c))
	}
	return errors.Join(errs...)
}

func problemOf(d *secretDecision) string {
	var out []string
	if len(d.missing) > 0 {
		out = append(out, "pull secrets not found: "+strings.Join(d.missing, ", "))
	}
	if len(d.unsupported) > 0 {
		out = append(out, "pull secrets of an unsupported type: "+strings.Join(d.unsupported, ", "))
	}
	if len(d.unreadable) > 0 {
		out = append(out, "pull secrets that hold no docker configuration: "+strings.Join(d.unreadable, ", "))
	}
	return strings.Join(out, "; ")
}

// Janitor removes copies of pull secrets whose source or jobs vanished, at the start and then every hour
// (security 5.3.1). It is a manager.Runnable.
type Janitor struct{ Config }

// Start implements manager.Runnable.
func (j *Janitor) Start(ctx context.Context) error {
	k := &secretKeeper{Config: j.Config}
	log := ctrl.Log.WithName("imagepull-janitor")
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		if err := k.sweep(ctx); err != nil && ctx.Err() == nil {
			log.Error(err, "Could not remove all unused copies of pull secrets")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (k *secretKeeper) sweep(ctx context.Context) error {
	ctx = quiet(ctx)
	copies, err := k.copies(ctx)
	if err != nil {
		return err
	}
	d := planJanitor(copies,
		func(key string) bool {
			if k.Broker {
				return false // what was copied before is not needed any more
			}
			err := k.Live.Get(ctx, splitKey(key), &corev1.Secret{})
			return !apierrors.IsNotFound(err)
		},
		func(key string) bool {
			job := &appsv1beta1.ImagePullJob{}
			err := k.Live.Get(ctx, splitKey(key), job)
			if apierrors.IsNotFound(err) {
				return false
			}
			return err != nil || job.Status.CompletionTime == nil
		})
	return k.act(ctx, d)
}

func splitKey(key string) types.NamespacedName {
	namespace, name, _ := strings.Cut(key, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}
