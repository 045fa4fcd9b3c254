// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1alpha1"
)

// The running manager converts for a thousand clients at once without one failure.
func TestConversionServesManyListsAtOnce(t *testing.T) {
	w := newWorld(t)
	const objects, lists = 20, 1000
	for i := range objects {
		cs := w.cloneSet(0)
		cs.Name = fmt.Sprintf("web-%d", i)
		w.must(w.client.Create(w.ctx, cs))
	}
	group, ctx := errgroup.WithContext(w.ctx)
	for range lists {
		group.Go(func() error {
			var list v1alpha1.CloneSetList
			err := w.client.List(ctx, &list, client.InNamespace(w.namespace))
			for apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) { // of a machine that has much to do; a conversion that fails is an internal error
				err = w.client.List(ctx, &list, client.InNamespace(w.namespace))
			}
			if err != nil {
				return err
			}
			if len(list.Items) != objects {
				return fmt.Errorf("a list has %d objects, there are %d", len(list.Items), objects)
			}
			return nil
		})
	}
	w.must(group.Wait())
}

// kubectl explain reads the apiserver's OpenAPI documents: every field of ours has a description there.
func TestExplainDescribesEveryField(t *testing.T) {
	w := newWorld(t)
	disco, err := discovery.NewDiscoveryClientForConfig(w.cluster.Config())
	w.must(err)
	paths, err := disco.OpenAPIV3().Paths()
	w.must(err)
	kinds := 0
	for path, gv := range paths {
		if !strings.Contains(path, ".kruise.io/") {
			continue
		}
		raw, err := gv.Schema("application/json")
		w.must(err)
		var document struct {
			Components struct {
				Schemas map[string]schemaNode `json:"schemas"`
			} `json:"components"`
		}
		w.must(json.Unmarshal(raw, &document))
		for name, schema := range document.Components.Schemas {
			if !strings.HasPrefix(name, "io.kruise.") || strings.HasSuffix(name, "List") {
				continue
			}
			kinds++
			for _, field := range schema.undescribed(name) {
				t.Errorf("%s has no description", field)
			}
		}
	}
	if kinds < 20 {
		t.Errorf("found only %d kinds of ours in the OpenAPI documents %v", kinds, paths)
	}
}

// schemaNode is the part of an OpenAPI schema that explain shows.
type schemaNode struct {
	Description          string                `json:"description"`
	Ref                  string                `json:"$ref"`
	AllOf                []schemaNode          `json:"allOf"`
	Properties           map[string]schemaNode `json:"properties"`
	Items                *schemaNode           `json:"items"`
	AdditionalProperties json.RawMessage       `json:"additionalProperties"`
}

// undescribed returns the paths of fields without a description below the node.
func (n schemaNode) undescribed(path string) []string {
	var out []string
	for name, child := range n.Properties {
		at := path + "." + name
		if child.Description == "" && child.Ref == "" && len(child.AllOf) == 0 {
			out = append(out, at)
		}
		out = append(out, child.undescribed(at)...)
	}
	if n.Items != nil {
		out = append(out, n.Items.undescribed(path+"[]")...)
	}
	var values schemaNode
	if len(n.AdditionalProperties) > 0 && json.Unmarshal(n.AdditionalProperties, &values) == nil {
		out = append(out, values.undescribed(path+"{}")...)
	}
	return out
}
