// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/controller-runtime/pkg/webhook/conversion"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
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
				return podreadiness.SetupWithManager(mgr, d.Client, d.Workers)
			},
			PodMutator: func(d *Deps) podadmission.Mutator { return podadmission.ReadinessGate(d.Gates) },
		},
		{
			Name:        "cloneset",
			AddToScheme: addAll(appsv1alpha1.AddToScheme, appsv1beta1.AddToScheme),
			Webhooks: func(*Deps) map[string]http.Handler {
				pass := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") })
				return map[string]http.Handler{
					"/mutate-apps-kruise-io-cloneset":   Admission(pass),
					"/validate-apps-kruise-io-cloneset": Admission(pass),
				}
			},
		},
	}
}

func addAll(add ...func(*runtime.Scheme) error) func(*runtime.Scheme) error {
	return func(s *runtime.Scheme) error {
		for _, f := range add {
			if err := f(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// converted are the kinds whose versions are converted by us: group and kind to the converter's constructor.
var converted = map[schema.GroupKind]func(*runtime.Scheme) (conversion.Converter, error){}

// Converts tells whether this manager converts between the versions of a kind.
func Converts(group, kind string) bool {
	_, ok := converted[schema.GroupKind{Group: group, Kind: kind}]
	return ok
}
