// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/containerrecreate"
	crradmission "kruise.io/kruise/internal/containerrecreate/admission"
	"kruise.io/kruise/internal/imagepull"
	imageadmission "kruise.io/kruise/internal/imagepull/admission"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/launchpriority"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/podadmission"
)

// imagePullFeature has the controllers of NodeImages and, with ImagePullJobGate, of both kinds of jobs. Their webhooks
// are served in any case: they tell which gate is off (image-pulling 4).
func imagePullFeature() Feature {
	kinds := []schema.GroupVersionKind{
		appsv1beta1.GroupVersion.WithKind("NodeImage"),
		appsv1beta1.GroupVersion.WithKind("ImagePullJob"),
		appsv1beta1.GroupVersion.WithKind("ImageListPullJob"),
	}
	return Feature{
		Name: "nodeimage", Kinds: kinds,
		Indexes: func(ctx context.Context, indexer client.FieldIndexer, _ *Deps) error {
			return imagepull.AddIndexes(ctx, indexer)
		},
		Controllers: imagePullControllers,
		Webhooks: func(d *Deps) map[string]http.Handler {
			out := map[string]http.Handler{}
			for path, h := range imageadmission.Handlers(imageadmission.Options{
				Daemon: d.Gates.Enabled(gates.KruiseDaemon), Jobs: d.Gates.Enabled(gates.ImagePullJob),
				ConfigNamespace: d.Options.DaemonConfigNamespace, Broker: d.Options.brokers(),
			}) {
				if strings.HasPrefix(path, "/validate-") {
					h = d.Delegation.Wrap(h)
				}
				out[path] = Admission(h)
			}
			if d.Options.brokers() {
				out[credentials.BrokerPath] = &imagepull.Broker{
					Live: d.Live, Reviews: d.Plain, Namespace: d.Options.DaemonNamespace, Account: "kruise-daemon",
					SecretTypes: d.Options.PullSecretTypes, Log: log.Log.WithName("credential-broker"),
				}
			}
			return out
		},
	}
}

func imagePullControllers(mgr manager.Manager, d *Deps) error {
	if !d.Gates.Enabled(gates.KruiseDaemon) {
		return nil
	}
	config := func(name string) imagepull.Config {
		return imagepull.Config{
			Client: d.Client, Plain: d.Plain, Live: d.Live,
			Recorder: mgr.GetEventRecorder(name + "-controller"),
			Workers:  d.Options.workers(name), RateLimiter: d.RateLimiter(),
			CreationDelay:    d.Options.NodeImageCreationDelay,
			AlwaysTTLSeconds: int32(d.Options.DefaultNodeImageTTLSeconds),
			ConfigNamespace:  d.Options.DaemonConfigNamespace,
			SecretTypes:      d.Options.PullSecretTypes,
			ReduceSecrets:    d.Options.PullSecretReduce,
			Broker:           d.Options.brokers(),
			MaxActivePulls:   d.Options.MaxActivePulls,
		}
	}
	if err := imagepull.SetupNodeImages(mgr, config("nodeimage")); err != nil {
		return fmt.Errorf("NodeImage controller: %w", err)
	}
	if !d.Gates.Enabled(gates.ImagePullJob) {
		return nil
	}
	if err := imagepull.SetupJobs(mgr, config("imagepulljob")); err != nil {
		return fmt.Errorf("ImagePullJob controller: %w", err)
	}
	if err := imagepull.SetupLists(mgr, config("imagelistpulljob")); err != nil {
		return fmt.Errorf("ImageListPullJob controller: %w", err)
	}
	return nil
}

// containerRecreateFeature has the controller and the webhook of ContainerRecreateRequests.
func containerRecreateFeature() Feature {
	return Feature{
		Name:  "crr",
		Kinds: []schema.GroupVersionKind{appsv1beta1.GroupVersion.WithKind("ContainerRecreateRequest")},
		Indexes: func(ctx context.Context, indexer client.FieldIndexer, _ *Deps) error {
			return containerrecreate.AddIndexes(ctx, indexer)
		},
		Controllers: func(mgr manager.Manager, d *Deps) error {
			if !d.Gates.Enabled(gates.KruiseDaemon) {
				return nil
			}
			return containerrecreate.SetupWithManager(mgr, containerrecreate.Config{
				Client: d.Client, Plain: d.Plain, Live: d.Live, Recorder: d.Recorder, Workers: d.Workers, RateLimiter: d.RateLimiter(),
			})
		},
		Webhooks: func(d *Deps) map[string]http.Handler {
			return map[string]http.Handler{
				"/mutate-apps-kruise-io-containerrecreaterequest": Admission(d.Delegation.Wrap(&crradmission.Handler{
					Daemon: d.Gates.Enabled(gates.KruiseDaemon), Reader: d.Live,
				})),
			}
		},
	}
}

// launchPriorityFeature starts the containers of pods in order. It comes after the features that add containers.
func launchPriorityFeature() Feature {
	return Feature{
		Name:  "container-launch-priority",
		Gates: []featuregate.Feature{gates.PodWebhook},
		Controllers: func(mgr manager.Manager, d *Deps) error {
			return launchpriority.SetupWithManager(mgr, d.Client, d.Plain, d.Live)
		},
		PodMutator: func(*Deps) podadmission.Mutator { return launchpriority.Mutator() },
	}
}
