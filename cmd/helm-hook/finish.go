// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Finalizers that the manager takes away, and that would keep objects, and their namespaces, from going without it.
const (
	jobFinalizer     = "apps.kruise.io/deletion-protection"
	requestFinalizer = "crr.apps.kruise.io/unready-acquired"
)

func (l listed) path(resource string) string {
	return "/apis/apps.kruise.io/v1beta1/namespaces/" + l.Metadata.Namespace + "/" + resource + "/" + l.Metadata.Name
}

// holding lists the objects of a kind that carry a finalizer. A kind that is not installed has none.
func holding(ctx context.Context, at *apiserver, resource, finalizer string) ([]listed, error) {
	var out []listed
	for token := ""; ; {
		items, next, err := at.page(ctx, "/apis/apps.kruise.io/v1beta1/"+resource, token)
		switch {
		case token != "" && answered(err, http.StatusGone):
			out, token = nil, "" // the list is too old to go on with
			continue
		case answered(err, http.StatusNotFound):
			return nil, nil
		case err != nil:
			return nil, err
		}
		for _, item := range items {
			if slices.Contains(item.Metadata.Finalizers, finalizer) {
				out = append(out, item)
			}
		}
		if token = next; token == "" {
			return out, nil
		}
	}
}

// finish leaves nothing behind that only a manager could let go. Requests that hold a pod out of service are deleted, so
// that the manager puts the pod back. Pull jobs stay, for the case that Kruise comes back, without their finalizers; since
// a manager puts these on again, it has to go first, and before it its webhooks, which would refuse every write without it.
// Helm deletes both next in any case.
func finish(ctx context.Context, at *apiserver, out io.Writer, namespace string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := endRequests(ctx, at, out); err != nil {
		return err
	}
	jobs, err := holding(ctx, at, "imagepulljobs", jobFinalizer)
	if err != nil || len(jobs) == 0 {
		return err
	}
	if err := stopManager(ctx, at, namespace); err != nil {
		return fmt.Errorf("stopping the manager, which holds %d ImagePullJobs by their finalizers: %w", len(jobs), err)
	}
	if jobs, err = holding(ctx, at, "imagepulljobs", jobFinalizer); err != nil {
		return err
	}
	for _, job := range jobs {
		if err := release(ctx, at, job, "imagepulljobs", jobFinalizer); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "%d ImagePullJobs have lost their finalizer: nobody would take it away\n", len(jobs))
	return err
}

// endRequests deletes ContainerRecreateRequests that hold pods, and waits until the manager has let the pods go.
func endRequests(ctx context.Context, at *apiserver, out io.Writer) error {
	const resource = "containerrecreaterequests"
	for told := false; ; told = true {
		requests, err := holding(ctx, at, resource, requestFinalizer)
		if err != nil || len(requests) == 0 {
			return err
		}
		for _, r := range requests {
			if err := at.do(ctx, http.MethodDelete, r.path(resource), nil, &struct{}{}); err != nil && !answered(err, http.StatusNotFound) {
				return err
			}
		}
		if !told {
			if _, err := fmt.Fprintf(out, "%d ContainerRecreateRequests are ended\n", len(requests)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d ContainerRecreateRequests are not let go by the manager, such as %s/%s: is it running?",
				len(requests), requests[0].Metadata.Namespace, requests[0].Metadata.Name)
		case <-time.After(time.Second):
		}
	}
}

// release takes a finalizer off an object.
func release(ctx context.Context, at *apiserver, l listed, resource, finalizer string) error {
	for {
		left := slices.DeleteFunc(slices.Clone(l.Metadata.Finalizers), func(f string) bool { return f == finalizer })
		err := at.do(ctx, http.MethodPatch, l.path(resource), map[string]any{
			"metadata": map[string]any{"resourceVersion": l.Metadata.ResourceVersion, "finalizers": left},
		}, &struct{}{})
		if answered(err, http.StatusNotFound) {
			return nil
		}
		if !answered(err, http.StatusConflict) {
			return err
		}
		if err := at.do(ctx, http.MethodGet, l.path(resource), nil, &l); err != nil {
			return err
		}
	}
}

// stopManager deletes the webhook configurations, scales the manager's Deployments to nothing and waits for its pods to end.
func stopManager(ctx context.Context, at *apiserver, namespace string) error {
	const configurations = "/apis/admissionregistration.k8s.io/v1/"
	var errs []error
	attempt := func(method, path string, body any) {
		if err := at.do(ctx, method, path, body, &struct{}{}); err != nil && !answered(err, http.StatusNotFound) {
			errs = append(errs, err)
		}
	}
	attempt(http.MethodDelete, configurations+"mutatingwebhookconfigurations/kruise-mutating-webhook-configuration", nil)
	attempt(http.MethodDelete, configurations+"validatingwebhookconfigurations/kruise-validating-webhook-configuration", nil)
	for _, name := range []string{"kruise-controllers", "kruise-controller-manager"} {
		attempt(http.MethodPatch, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name+"/scale", map[string]any{"spec": map[string]any{"replicas": 0}})
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	selector := url.QueryEscape("control-plane in (controller-manager,controllers)")
	for {
		var pods struct {
			Items []struct{} `json:"items"`
		}
		if err := at.do(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods?limit=1&labelSelector="+selector, nil, &pods); err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("its pods don't end")
		case <-time.After(time.Second):
		}
	}
}
