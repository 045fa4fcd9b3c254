// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Config is what the three controllers need.
type Config struct {
	// FollowJobs makes the NodeImage controller watch ImagePullJobs; only where the kind is served.
	FollowJobs bool
	// Client reads our kinds and pods from the cache, and sees its own writes.
	Client client.Client
	// Plain reads from the cache: nodes and namespaces.
	Plain client.Client
	// Live reads from and writes to the apiserver: pull secrets, which are never cached, and NodeImages after a conflict.
	Live     client.Reader
	Recorder events.EventRecorder
	// Workers is the number of concurrent reconciles of the controller that is set up.
	Workers     int
	RateLimiter workqueue.TypedRateLimiter[reconcile.Request]
	// CreationDelay is how long a node must have been ready before it gets a NodeImage (--nodeimage-creation-delay).
	CreationDelay time.Duration
	// AlwaysTTLSeconds is --default-ttlseconds-for-always-nodeimage.
	AlwaysTTLSeconds int32
	// ConfigNamespace is the namespace of the secrets that agents read (KRUISE_DAEMON_CONFIG_NS).
	ConfigNamespace string
	// SecretTypes are the types of secrets that are copied there; "*" for all (--pull-secret-types).
	SecretTypes []string
	// ReduceSecrets leaves of a copy only the registries that the images of its jobs come from (--pull-secret-reduce).
	ReduceSecrets bool
	// WatchSecrets has copies follow their sources at once, at the price of the right to list and watch all secrets
	// (--watch-pull-secrets); Namespace is the only one that is looked at, empty for all.
	WatchSecrets bool
	Namespace    string
	// Broker: nothing is copied, agents ask a Broker (--secret-delivery=broker).
	Broker bool
	// MaxActivePulls bounds the unfinished tasks of all jobs on all nodes; 0 for no bound (--max-active-pulls).
	MaxActivePulls int
	// Now is the clock; nil for the real one.
	Now func() time.Time
}

// DefaultConfigNamespace is the namespace of synced pull secrets unless KRUISE_DAEMON_CONFIG_NS names another.
const DefaultConfigNamespace = "kruise-daemon-config"

// DefaultSecretTypes are the secret types that hold registry credentials (security 5.3.1).
func DefaultSecretTypes() []string {
	return []string{string(corev1.SecretTypeDockerConfigJson), string(corev1.SecretTypeDockercfg)}
}

func (c *Config) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Names of the field indexes.
const (
	indexTaskOwner  = "imagepull.taskOwner"  // NodeImages by the UIDs of the jobs that own a task
	indexController = "imagepull.controller" // ImagePullJobs by the UID of their controller
	indexByPods     = "imagepull.byPods"     // active ImagePullJobs with a podSelector, by "true"
	indexActive     = "imagepull.active"     // active ImagePullJobs, by "true"
)

// AddNodeIndexes registers the field indexes of NodeImages that their controller and that of ImagePullJobs use.
func AddNodeIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	return addIndexes(ctx, indexer, nodeIndexes())
}

// AddJobIndexes registers the field indexes of ImagePullJobs that the controllers of both kinds of jobs use.
func AddJobIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	return addIndexes(ctx, indexer, jobIndexes())
}

func addIndexes(ctx context.Context, indexer client.FieldIndexer, indexes []index) error {
	for _, i := range indexes {
		if err := indexer.IndexField(ctx, i.object, i.name, i.extract); err != nil {
			return fmt.Errorf("index %s: %w", i.name, err)
		}
	}
	return nil
}

type index struct {
	object  client.Object
	name    string
	extract client.IndexerFunc
}

func nodeIndexes() []index {
	return []index{
		{&appsv1beta1.NodeImage{}, indexTaskOwner, func(o client.Object) []string {
			n, ok := o.(*appsv1beta1.NodeImage)
			if !ok {
				return nil
			}
			seen := map[types.UID]bool{}
			var out []string
			for _, entry := range n.Spec.Images {
				for i := range entry.Tags {
					for _, ref := range entry.Tags[i].OwnerReferences {
						if ref.UID != "" && !seen[ref.UID] {
							seen[ref.UID] = true
							out = append(out, string(ref.UID))
						}
					}
				}
			}
			return out
		}},
	}
}

func jobIndexes() []index {
	return []index{
		{&appsv1beta1.ImagePullJob{}, indexController, func(o client.Object) []string {
			if c := metav1.GetControllerOf(o); c != nil {
				return []string{string(c.UID)}
			}
			return nil
		}},
		{&appsv1beta1.ImagePullJob{}, indexActive, func(o client.Object) []string {
			if job, ok := o.(*appsv1beta1.ImagePullJob); ok && isActive(job) {
				return []string{"true"}
			}
			return nil
		}},
		{&appsv1beta1.ImagePullJob{}, indexByPods, func(o client.Object) []string {
			if job, ok := o.(*appsv1beta1.ImagePullJob); ok && isActive(job) && job.Spec.PodSelector != nil {
				return []string{"true"}
			}
			return nil
		}},
	}
}

// isActive says whether the job may still act on nodes.
func isActive(job *appsv1beta1.ImagePullJob) bool {
	return job.DeletionTimestamp == nil && job.Status.CompletionTime == nil
}

// owners tells how far the jobs behind owner references have got; each is read once. The function it returns may be
// called concurrently.
func owners(ctx context.Context, c client.Reader) func(corev1.ObjectReference) ownerPhase {
	var mu sync.Mutex
	known := map[types.UID]ownerPhase{}
	return func(ref corev1.ObjectReference) ownerPhase {
		mu.Lock()
		defer mu.Unlock()
		if phase, ok := known[ref.UID]; ok {
			return phase
		}
		phase := ownerUnknown
		job := &appsv1beta1.ImagePullJob{}
		err := c.Get(ctx, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, job)
		switch {
		case apierrors.IsNotFound(err) || err == nil && job.UID != ref.UID:
			phase = ownerGone
		case err != nil:
		case job.Status.CompletionTime != nil:
			phase = ownerComplete
		case job.Spec.CompletionPolicy.Type == appsv1beta1.Never:
			phase = ownerDaily
		default:
			phase = ownerActive
		}
		known[ref.UID] = phase
		return phase
	}
}

// after stretches short waits, so that many objects don't look again at the same moment (image-pulling 5.2).
func after(d time.Duration) reconcile.Result {
	if d > 0 && d < 3*time.Second {
		d = 3*time.Second + time.Duration(rand.Int64N(int64(2*time.Second)))
	}
	return reconcile.Result{RequeueAfter: d}
}

// retriable says whether an error, or all of those that are joined in it, only means that somebody else was faster.
func retriable(err error) bool {
	switch e := err.(type) { //nolint:errorlint // it looks at each error itself
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !retriable(err) })
	case interface{ Unwrap() error }:
		return retriable(e.Unwrap())
	}
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err)
}
