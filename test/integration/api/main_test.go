// SPDX-License-Identifier: Apache-2.0

// Package api_test puts the API to a real apiserver: all CustomResourceDefinitions, their rules, the samples, and
// conversion through a webhook. No controller and no admission runs.
package api_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/config"
	"kruise.io/kruise/internal/conversion"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/lab"
)

var (
	cfg  *rest.Config
	kube dynamic.Interface
	crds = map[schema.GroupKind]*apiextensionsv1.CustomResourceDefinition{}
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	server := httptest.NewTLSServer(conversion.Handler())
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return lab.Main(m, lab.Options{Nodes: 1}, func(l *lab.Lab) error {
		cfg = l.Config()
		cfg.QPS = -1
		var err error
		if kube, err = dynamic.NewForConfig(cfg); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
		defer cancel()
		return install(ctx, server.URL+"/convert", ca)
	})
}

// install creates all CustomResourceDefinitions and waits until they are served. An apiserver that finds a rule too
// costly refuses here.
func install(ctx context.Context, url string, ca []byte) error {
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		return err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	var refused []error
	entries, err := config.FS.ReadDir("crd/bases")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := config.FS.ReadFile(path.Join("crd/bases", e.Name()))
		if err != nil {
			return err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(data, crd); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
		if crd.Spec.Conversion != nil {
			crd.Spec.Conversion.Webhook.ClientConfig = &apiextensionsv1.WebhookClientConfig{URL: &url, CABundle: ca}
		}
		if err := c.Create(ctx, crd); err != nil && !apierrors.IsAlreadyExists(err) {
			refused = append(refused, fmt.Errorf("%s: %w", e.Name(), err))
		}
		crds[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}] = crd
	}
	if err := errors.Join(refused...); err != nil {
		return err
	}
	for _, crd := range crds {
		err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			live := &apiextensionsv1.CustomResourceDefinition{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(crd), live); err != nil {
				return false, err
			}
			for _, condition := range live.Status.Conditions {
				if condition.Type == apiextensionsv1.NonStructuralSchema && condition.Status == apiextensionsv1.ConditionTrue {
					return false, fmt.Errorf("%s: %s", crd.Name, condition.Message)
				}
			}
			return slices.ContainsFunc(live.Status.Conditions, func(condition apiextensionsv1.CustomResourceDefinitionCondition) bool {
				return condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
			}), nil
		})
		if err != nil {
			return errors.Join(fmt.Errorf("waiting for %s", crd.Name), err)
		}
	}
	// Discovery of a new group trails its conditions a little.
	for _, crd := range crds {
		for _, v := range crd.Spec.Versions {
			err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
				_, err := resource(crd, v.Name, "").List(ctx, metav1.ListOptions{Limit: 1})
				return err == nil, nil
			})
			if err != nil {
				return fmt.Errorf("%s %s is not served: %w", crd.Name, v.Name, err)
			}
		}
	}
	return nil
}

// resource is the endpoint of a kind in a version.
func resource(crd *apiextensionsv1.CustomResourceDefinition, version, namespace string) dynamic.ResourceInterface {
	r := kube.Resource(schema.GroupVersionResource{Group: crd.Spec.Group, Version: version, Resource: crd.Spec.Names.Plural})
	if crd.Spec.Scope == apiextensionsv1.ClusterScoped || namespace == "" {
		return r
	}
	return r.Namespace(namespace)
}
