// SPDX-License-Identifier: Apache-2.0

// Package deletionprotection refuses the deletion of objects that carry the label policy.kruise.io/delete-protection.
package deletionprotection

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/protectionlog"
)

var refusals = protectionlog.NewCounter(prometheus.CounterOpts{
	Name: "workload_deletion_protection",
	Help: "Number of deletions of workloads that were refused because of the label policy.kruise.io/delete-protection.",
}, "kind_namespace_name", "username")

func init() { metrics.Registry.MustRegister(refusals) }

// RefuseWorkload returns why a workload with that metadata and number of replicas must not be deleted; empty if it may
// be (deletion-protection 3, 4.2). An object that is being deleted already is never refused.
func RefuseWorkload(meta *metav1.ObjectMeta, replicas *int32) string {
	if meta.DeletionTimestamp != nil {
		return ""
	}
	switch meta.Labels[pub.DeletionProtectionKey] {
	case pub.DeletionProtectionTypeAlways:
		return fmt.Sprintf("forbidden by ResourcesProtectionDeletion for %s=%s", pub.DeletionProtectionKey, pub.DeletionProtectionTypeAlways)
	case pub.DeletionProtectionTypeCascading:
		if replicas != nil && *replicas > 0 {
			return fmt.Sprintf("forbidden by ResourcesProtectionDeletion for %s=%s and replicas %d>0",
				pub.DeletionProtectionKey, pub.DeletionProtectionTypeCascading, *replicas)
		}
	}
	return ""
}

// CountWorkload counts a refusal and writes it to the protection log; not for dry runs (weakness 14).
func CountWorkload(kind, namespace, name, username string) {
	refusals.Inc(kind+"_"+namespace+"_"+name, username)
	protectionlog.Record(protectionlog.Entry{
		Event: "DeletionProtection", Kind: kind, Namespace: namespace, Name: name, UserAgent: username,
	})
}

// Warnings tells about a label whose value protects nothing (weakness 6).
func Warnings(labels map[string]string) []string {
	value, ok := labels[pub.DeletionProtectionKey]
	if !ok || value == pub.DeletionProtectionTypeAlways || value == pub.DeletionProtectionTypeCascading {
		return nil
	}
	return []string{fmt.Sprintf("unknown value %q for %s: the object is not protected, use %s or %s",
		value, pub.DeletionProtectionKey, pub.DeletionProtectionTypeAlways, pub.DeletionProtectionTypeCascading)}
}
