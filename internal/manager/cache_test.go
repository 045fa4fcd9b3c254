// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/pod"
)

// podServer serves n pods of one namespace, ten per owner, as an apiserver without streaming lists does.
func podServer(t *testing.T, n int) *rest.Config {
	t.Helper()
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
	for i := range n {
		list.Items = append(list.Items, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: fmt.Sprintf("pod-%d", i), ResourceVersion: "1",
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet", Name: "c", UID: types.UID(fmt.Sprintf("owner-%d", i/10)), Controller: new(true)}},
				ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "someone"}},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
		})
	}
	body, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Get("watch") != "" && r.URL.Query().Get("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity)
		case r.URL.Query().Get("watch") != "":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/pods"):
			_, _ = w.Write(body)
		default:
			_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"1"},"items":[]}`))
		}
	}))
	t.Cleanup(srv.CloseClientConnections)
	return &rest.Config{Host: srv.URL}
}

// TestOwnerIndex_S_platform_29: finding the pods of an owner among 10,000 of a namespace takes less than 5 ms, and no
// more than a fiftieth of what looking at all of them takes.
func TestOwnerIndex_S_platform_29(t *testing.T) {
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"Pod", "PersistentVolumeClaim"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), meta.RESTScopeNamespace)
	o, err := NewOptions()
	if err != nil {
		t.Fatal(err)
	}
	options := o.cacheOptions()
	options.ByObject = nil // Secrets and ConfigMaps of other tests
	options.Scheme, options.Mapper = scheme, mapper
	c, err := cache.New(podServer(t, 10_000), options)
	if err != nil {
		t.Fatal(err)
	}
	if err := indexes(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Start(t.Context()) }()
	if !c.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache is not complete")
	}
	measure := func(want int, opts ...client.ListOption) time.Duration {
		best := time.Hour // of some: the machine does other things, too
		for range 20 {
			var pods corev1.PodList
			begin := time.Now()
			if err := c.List(t.Context(), &pods, append(opts, client.InNamespace("default"))...); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(begin))
			if len(pods.Items) != want || pods.Items[0].ManagedFields != nil {
				t.Fatalf("%d pods, managed fields %v", len(pods.Items), pods.Items[0].ManagedFields)
			}
		}
		return best
	}
	indexed := measure(10, client.MatchingFields{pod.OwnerUIDField: "owner-500"})
	all := measure(10_000)
	t.Logf("by index %s, all %s", indexed, all)
	if indexed > 5*time.Millisecond || all < 50*indexed {
		t.Errorf("by index %s, all %s", indexed, all)
	}
}

// TestDisableNoDeepCopy: with the flag, lists are copies whatever the caller asks for (platform 5.8).
func TestDisableNoDeepCopy(t *testing.T) {
	f, err := ParseFlags([]string{"--disable-no-deepcopy"})
	if err != nil || !f.Options.DisableNoDeepCopy {
		t.Fatal(err)
	}
	var asked client.ListOptions
	asked.ApplyOptions([]client.ListOption{client.UnsafeDisableDeepCopy, client.UnsafeDisableDeepCopyOption(false)})
	if *asked.UnsafeDisableDeepCopy {
		t.Error("the last option does not win")
	}
}
