// SPDX-License-Identifier: Apache-2.0

package restconfig

import (
	"testing"

	"k8s.io/client-go/rest"
)

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
