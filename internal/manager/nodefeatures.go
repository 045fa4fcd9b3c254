// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
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
	"kruise.io/kruise/internal/noderestriction"
	"kruise.io/kruise/internal/podadmission"
)

var (
	nodeImageKind        = appsv1beta1.GroupVersion.WithKind("NodeImage")
	imagePullJobKind     = appsv1beta1.GroupVersion.WithKind("ImagePullJob")
	imageListPullJobKind = appsv1beta1.GroupVersion.WithKind("ImageListPullJob")
)

// nodeImageFeature has the controller of NodeImages, and the webhooks of both kinds of jobs, too, which are served in any
// case: they tell which gate is off (image-pulling 4).
func nodeImageFeature() Feature {
	return Feature{
		Name: "nodeimage", Kinds: []schema.GroupVersionKind{nodeImageKind}, OptionalKinds: []schema.GroupVersionKind{imagePullJobKind},
		Indexes: func(ctx context.Context, indexer client.FieldIndexer, _ *Deps) error {
			return imagepull.AddNodeIndexes(ctx, indexer)
		},
		Controllers: func(mgr manager.Manager, d *Deps) error {
			if !d.Gates.Enabled(gates.KruiseDaemon) {
				return nil
			}
			c := imagePullConfig(d)
			c.FollowJobs = d.Served(imagePullJobKind)
			return imagepull.SetupNodeImages(mgr, c)
		},
		Webhooks: imagePullWebhooks,
	}
}

// imagePullJobFeature has the controller of ImagePullJobs.
func imagePullJobFeature() Feature {
	return Feature{
		Name: "imagepulljob", Kinds: []schema.GroupVersionKind{nodeImageKind, imagePullJobKind},
		Gates: []featuregate.Feature{gates.KruiseDaemon, gates.ImagePullJob},
		Indexes: func(ctx context.Context, indexer client.FieldIndexer, _ *Deps) error {
			if err := imagepull.AddNodeIndexes(ctx, indexer); err != nil {
				return err
			}
			return imagepull.AddJobIndexes(ctx, indexer)
		},
		Controllers: func(mgr manager.Manager, d *Deps) error { return imagepull.SetupJobs(mgr, imagePullConfig(d)) },
	}
}

// imageListPullJobFeature has the controller of ImageListPullJobs.
func imageListPullJobFeature() Feature {
	return Feature{
		Name: "imagelistpulljob", Kinds: []schema.GroupVersionKind{imagePullJobKind, imageListPullJobKind},
		Gates: []featuregate.Feature{gates.KruiseDaemon, gates.ImagePullJob},
		Indexes: func(ctx context.Context, indexer client.FieldIndexer, _ *Deps) error {
			return imagepull.AddJobIndexes(ctx, indexer)
		},
		Controllers: func(mgr manager.Manager, d *Deps) error { return imagepull.SetupLists(mgr, imagePullConfig(d)) },
	}
}

func imagePullConfig(d *Deps) imagepull.Config {
	return imagepull.Config{
		Client: d.Client, Plain: d.Plain, Live: d.Live, Recorder: d.Recorder, Workers: d.Workers, RateLimiter: d.RateLimiter(),
		CreationDelay:    d.Options.NodeImageCreationDelay,
		AlwaysTTLSeconds: int32(d.Options.DefaultNodeImageTTLSeconds),
		ConfigNamespace:  d.Options.DaemonConfigNamespace,
		SecretTypes:      d.Options.PullSecretTypes,
		ReduceSecrets:    d.Options.PullSecretReduce,
		WatchSecrets:     d.Options.WatchPullSecrets,
		Namespace:        d.Options.Namespace,
		Broker:           d.Options.brokers(),
		MaxActivePulls:   d.Options.MaxActivePulls,
	}
}

func imagePullWebhooks(d *Deps) map[string]http.Handler {
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
}

// containerRecreateFeature has the controller and the webhook of ContainerRecreateRequests.
func containerRecreateFeature() Feature {
	return Feature{
		Name: "crr", Controller: "containerrecreaterequest-controller",
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
				"/mutate-apps-kruise-io-containerrecreaterequest": Admission(&crradmission.Mutator{Reader: d.Live}),
				"/validate-apps-kruise-io-containerrecreaterequest": Admission(d.Delegation.Wrap(&crradmission.Validator{
					Daemon: d.Gates.Enabled(gates.KruiseDaemon), Reader: d.Live,
				})),
			}
		},
	}
}

// agentRestrictionFeature keeps agents to their own nodes where the apiserver cannot (security 5.2).
func agentRestrictionFeature() Feature {
	return Feature{
		Name: "daemon-restriction", Gates: []featuregate.Feature{gates.DaemonRestrictionWebhook},
		Webhooks: func(d *Deps) map[string]http.Handler {
			return map[string]http.Handler{
				noderestriction.Path: Admission(&noderestriction.Handler{Reader: d.Live, Namespace: d.Options.DaemonNamespace, Account: "kruise-daemon"}),
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
