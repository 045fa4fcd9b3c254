// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// kind is what the guard looks for.
type kind struct {
	group, resource string
	versions        []string
	// text names the kind in the message; those of the first three are contract.
	text string
	// data: it owns no pods, but is lost when CustomResourceDefinitions are deleted.
	data bool
}

// kinds are the kinds that own pods or containers in pods, and those that users would lose with the CRDs.
func kinds() []kind {
	const apps, policy = "apps.kruise.io", "policy.kruise.io"
	both, alpha := []string{"v1alpha1", "v1beta1"}, []string{"v1alpha1"}
	return []kind{
		{apps, "clonesets", both, "clonesets", false},
		{apps, "statefulsets", both, "advanced statefulsets", false},
		{apps, "daemonsets", both, "advanced daemonsets", false},
		{apps, "uniteddeployments", both, "uniteddeployments", false},
		{apps, "broadcastjobs", both, "broadcastjobs", false},
		{apps, "advancedcronjobs", both, "advancedcronjobs", false},
		{apps, "sidecarsets", both, "sidecarsets", false},
		{apps, "ephemeraljobs", alpha, "ephemeraljobs", false},
		{apps, "workloadspreads", both, "workloadspreads", true},
		{apps, "resourcedistributions", both, "resourcedistributions", true},
		{apps, "persistentpodstates", both, "persistentpodstates", true},
		{apps, "podprobemarkers", alpha, "podprobemarkers", true},
		{apps, "imagepulljobs", both, "imagepulljobs", true},
		{apps, "imagelistpulljobs", both, "imagelistpulljobs", true},
		{apps, "containerrecreaterequests", both, "containerrecreaterequests", true},
		{policy, "podunavailablebudgets", both, "podunavailablebudgets", true},
	}
}

// guard fails with a line for each kind of which there are objects, and when it cannot tell. A kind that is not
// installed has none.
func guard(ctx context.Context, at *apiserver, out io.Writer, everything bool) error {
	var found []error
	for _, k := range kinds() {
		if k.data && !everything {
			continue
		}
		name, err := k.find(ctx, at)
		if err != nil {
			return fmt.Errorf("cannot tell whether there are %s: %w", k.text, err)
		}
		if name != "" {
			found = append(found, fmt.Errorf("there still exists some %s in the cluster, such as %s", k.text, name))
		}
	}
	if len(found) > 0 {
		return errors.Join(found...)
	}
	_, err := fmt.Fprintln(out, "cluster is clean, ready to delete kruise")
	return err
}

// find returns the name of an object of the kind, "" if there is none.
func (k kind) find(ctx context.Context, at *apiserver) (string, error) {
	for _, version := range k.versions {
		var list struct {
			Items []struct {
				Metadata struct {
					Namespace string `json:"namespace"`
					Name      string `json:"name"`
				} `json:"metadata"`
			} `json:"items"`
		}
		err := at.do(ctx, http.MethodGet, "/apis/"+k.group+"/"+version+"/"+k.resource+"?limit=1", nil, &list)
		if status := (*statusError)(nil); errors.As(err, &status) && status.Code == http.StatusNotFound {
			continue
		}
		if err != nil {
			return "", err
		}
		if len(list.Items) > 0 {
			m := list.Items[0].Metadata
			if m.Namespace != "" {
				return m.Namespace + "/" + m.Name, nil
			}
			return m.Name, nil
		}
	}
	return "", nil
}
