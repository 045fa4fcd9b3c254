// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/cloneset/admission"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/podadmission"
	"kruise.io/kruise/internal/podreadiness"
)

// Features is the one list of what this manager consists of. Its order is the order in which features see a new pod
// (platform 7.3).
func Features() []Feature {
	return []Feature{
		{
			Name: "pod-readiness",
			Controllers: func(mgr manager.Manager, d *Deps) error {
				return podreadiness.SetupWithManager(mgr, d.Client, d.Workers, d.RateLimiter())
			},
			PodMutator: func(d *Deps) podadmission.Mutator { return podadmission.ReadinessGate(d.Gates) },
		},
		{
			Name:          "cloneset",
			Kinds:         []schema.GroupVersionKind{appsv1beta1.GroupVersion.WithKind("CloneSet")},
			OptionalKinds: []schema.GroupVersionKind{appsv1beta1.GroupVersion.WithKind("ImagePullJob")}, // preDownloads
			Indexes:       cloneSetIndexes,
			Controllers:   cloneSetController,
			Webhooks:      cloneSetWebhooks,
		},
		nodeImageFeature(),
		imagePullJobFeature(),
		imageListPullJobFeature(),
		containerRecreateFeature(),
		agentRestrictionFeature(),
		launchPriorityFeature(),
	}
}

// preDownloads tells whether images can be pulled ahead of an in-place update.
func preDownloads(d *Deps) bool {
	return d.Gates.Enabled(gates.PreDownloadImageForInPlaceUpdate) && d.Served(appsv1beta1.GroupVersion.WithKind("ImagePullJob"))
}

func cloneSetIndexes(ctx context.Context, indexer client.FieldIndexer, d *Deps) error {
	if !preDownloads(d) {
		return nil
	}
	return indexer.IndexField(ctx, &appsv1beta1.ImagePullJob{}, pod.OwnerUIDField, pod.OwnerUIDs)
}

func cloneSetController(mgr manager.Manager, d *Deps) error {
	on := d.Gates.Enabled
	return cloneset.SetupWithManager(mgr, cloneset.Options{
		Client:           d.Client,
		Nodes:            d.Plain,
		Workers:          d.Workers,
		RateLimiter:      d.RateLimiter(),
		CacheSyncTimeout: d.Options.CacheSyncTimeout,
		FilterEvents:     on(gates.CloneSetEventHandlerOptimization),
		Gates: cloneset.Gates{
			ShortHash:               on(gates.CloneSetShortHash),
			PartitionRollback:       on(gates.CloneSetPartitionRollback),
			PreparingUpdateAsUpdate: on(gates.PreparingUpdateAsUpdate),
			RecreateOnClaimChange:   on(gates.RecreatePodWhenChangeVCTInCloneSet),
			KeepClaimsForDeletion:   on(gates.CloneSetKeepPVCForDeletion),
			PodReadinessGate:        on(gates.PodWebhook),
			EnvFromMetadata:         on(gates.InPlaceUpdateEnvFromMetadata),
			VerticalScaling:         on(gates.InPlaceWorkloadVerticalScaling),
			ResizeSubresource:       d.ServerAtLeast("1.32"),
			PreDownload:             preDownloads(d),
			ExcludePreparingDelete:  d.Options.CloneSetScalingExcludePreparingDelete,
		},
	})
}

func cloneSetWebhooks(d *Deps) map[string]http.Handler {
	o := admission.OptionsFor(d.Gates, d.Options.AllowPrivileged)
	return map[string]http.Handler{
		"/mutate-apps-kruise-io-cloneset":   Admission(admission.MutatingHandler(o)),
		"/validate-apps-kruise-io-cloneset": Admission(admission.ValidatingHandler(o, d.Live)),
	}
}
