// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// check is one thing that a working installation does.
type check struct {
	text string
	f    func(context.Context, *apiserver) error
}

// installation is what the chart was told to install.
type installation struct {
	namespace string
	agents    string // their namespace; empty without agents
	separate  bool   // controllers and webhooks are two Deployments
}

// test checks an installation and says what works; it waits up to limit for what does not work yet.
func test(ctx context.Context, at *apiserver, out io.Writer, i installation, limit time.Duration) error {
	namespace, agents := i.namespace, i.agents
	deployment := func(name string) func(context.Context, *apiserver) error {
		return func(ctx context.Context, at *apiserver) error {
			return available(ctx, at, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name)
		}
	}
	checks := []check{
		{"the manager's replicas are available", deployment("kruise-controller-manager")},
		{"CustomResourceDefinitions are established and know the CA of their conversion", definitions},
		{"a wrong CloneSet is refused by the webhook, in both versions", func(ctx context.Context, at *apiserver) error {
			return errors.Join(refused(ctx, at, namespace, "v1alpha1"), refused(ctx, at, namespace, "v1beta1"))
		}},
	}
	if i.separate {
		checks = append(checks, check{"the controllers' replicas are available", deployment("kruise-controllers")})
	}
	if agents != "" {
		checks = append(checks, check{"the agents are available", func(ctx context.Context, at *apiserver) error {
			return available(ctx, at, "/apis/apps/v1/namespaces/"+agents+"/daemonsets/kruise-daemon")
		}})
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, c := range checks {
		for err := c.f(ctx, at); err != nil; err = c.f(ctx, at) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("not so: %s: %w", c.text, err)
			case <-time.After(time.Second):
			}
		}
		if _, err := fmt.Fprintln(out, "ok:", c.text); err != nil {
			return err
		}
	}
	return nil
}

// available wants all wanted pods of a Deployment or DaemonSet.
func available(ctx context.Context, at *apiserver, path string) error {
	var obj struct {
		Metadata struct {
			Generation int64 `json:"generation"`
		} `json:"metadata"`
		Spec struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
		Status struct {
			ObservedGeneration     int64 `json:"observedGeneration"`
			AvailableReplicas      int   `json:"availableReplicas"`
			UpdatedReplicas        int   `json:"updatedReplicas"`
			DesiredNumberScheduled int   `json:"desiredNumberScheduled"`
			NumberAvailable        int   `json:"numberAvailable"`
		} `json:"status"`
	}
	if err := at.do(ctx, http.MethodGet, path, nil, &obj); err != nil {
		return err
	}
	s := obj.Status
	if s.ObservedGeneration < obj.Metadata.Generation || s.UpdatedReplicas < obj.Spec.Replicas || s.AvailableReplicas < obj.Spec.Replicas || s.NumberAvailable < s.DesiredNumberScheduled {
		return fmt.Errorf("%s: %d of %d are available", path, s.AvailableReplicas+s.NumberAvailable, obj.Spec.Replicas+s.DesiredNumberScheduled)
	}
	return nil
}

// definitions wants what the apiserver needs to serve our kinds.
func definitions(ctx context.Context, at *apiserver) error {
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Spec struct {
				Conversion *struct {
					Strategy string `json:"strategy"`
					Webhook  *struct {
						ClientConfig struct {
							CABundle string `json:"caBundle"`
						} `json:"clientConfig"`
					} `json:"webhook"`
				} `json:"conversion"`
			} `json:"spec"`
			Status struct {
				Conditions []struct{ Type, Status string } `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := at.do(ctx, http.MethodGet, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", nil, &list); err != nil {
		return err
	}
	ours := 0
	var errs []error
	for _, crd := range list.Items {
		name := crd.Metadata.Name
		if !strings.HasSuffix(name, ".apps.kruise.io") && !strings.HasSuffix(name, ".policy.kruise.io") {
			continue
		}
		ours++
		established := false
		for _, c := range crd.Status.Conditions {
			established = established || c.Type == "Established" && c.Status == "True"
		}
		if !established {
			errs = append(errs, fmt.Errorf("%s is not established", name))
		}
		if c := crd.Spec.Conversion; c != nil && c.Strategy == "Webhook" && (c.Webhook == nil || c.Webhook.ClientConfig.CABundle == "") {
			errs = append(errs, fmt.Errorf("%s has no CA for its conversion", name))
		}
	}
	if ours == 0 {
		return errors.New("there are none of Kruise")
	}
	return errors.Join(errs...)
}

// refused sends, as a dry run, a CloneSet whose template lacks the labels that it selects.
func refused(ctx context.Context, at *apiserver, namespace, version string) error {
	obj := map[string]any{
		"apiVersion": "apps.kruise.io/" + version, "kind": "CloneSet",
		"metadata": map[string]any{"name": "kruise-helm-test"},
		"spec": map[string]any{
			"replicas": 0,
			"selector": map[string]any{"matchLabels": map[string]string{"app": "kruise-helm-test"}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]string{"app": "another"}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "app"}}},
			},
		},
	}
	var answer any
	err := at.do(ctx, http.MethodPost, "/apis/apps.kruise.io/"+version+"/namespaces/"+namespace+"/clonesets?dryRun=All", obj, &answer)
	if err == nil {
		return fmt.Errorf("a wrong CloneSet of %s is accepted", version)
	}
	if !strings.Contains(err.Error(), "denied the request") {
		return fmt.Errorf("a wrong CloneSet of %s: %w", version, err)
	}
	return nil
}
