// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// expectationLeakage is part of the contract (cloneset 4.4). There are no expectations that could leak, so it never gets
// a value; dashboards and alerts on it keep working.
var expectationLeakage = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "cloneset_scale_expectation_leakage",
	Help: "Kept for compatibility, always without values: the cache shows the controller its own writes, nothing is expected.",
}, []string{"namespace", "name"})

func init() {
	metrics.Registry.MustRegister(expectationLeakage)
}
