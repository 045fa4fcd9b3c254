// SPDX-License-Identifier: Apache-2.0

package restconfig

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// The flags of the agent let more than the library's 5 requests per second through.
func TestLimits(t *testing.T) {
	t.Run("S_node_agent_17", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
		defer server.Close()
		cfg := For(&rest.Config{Host: server.URL}, "kruise-daemon", "", Limits{QPS: 50, Burst: 100})
		cfg.GroupVersion, cfg.NegotiatedSerializer = &schema.GroupVersion{Version: "v1"}, serializer.NewCodecFactory(runtime.NewScheme())
		c, err := rest.RESTClientFor(cfg)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 120 { // 100 at once, and 20 at 50 per second; the library's defaults take 22 s
			if err := c.Get().AbsPath("/").Do(t.Context()).Error(); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestFor(t *testing.T) {
	base := &rest.Config{Host: "h", UserAgent: "x", QPS: 5, Burst: 10}
	for name, tc := range map[string]struct {
		component string
		limits    Limits
		agent     string
		qps       float32
		burst     int
	}{
		"process":   {"", Limits{}, "kruise-daemon", -1, 0},
		"component": {"c", Limits{Burst: 7}, "kruise-daemon/c", -1, 0},
		"throttled": {"c", Limits{QPS: 50, Burst: 100}, "kruise-daemon/c", 50, 100},
	} {
		t.Run(name, func(t *testing.T) {
			c := For(base, "kruise-daemon", tc.component, tc.limits)
			if c.UserAgent != tc.agent || c.QPS != tc.qps || c.Burst != tc.burst || c.Host != "h" {
				t.Errorf("%+v", c)
			}
		})
	}
	if base.UserAgent != "x" || base.QPS != 5 {
		t.Error("the original was changed")
	}
}
