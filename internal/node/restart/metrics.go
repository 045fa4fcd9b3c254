// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Metrics of the process (node-agent W14). Several agents in one process (tests) share them.
var (
	results = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kruise_daemon_recreate_containers_total", Help: "Containers of completed ContainerRecreateRequests by their last phase.",
	}, []string{"phase"})
	stops = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kruise_daemon_container_stops_total", Help: "Containers that were stopped for ContainerRecreateRequests, or could not be.",
	}, []string{"result"})
)

func init() { ctrlmetrics.Registry.MustRegister(results, stops) }

func count(err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	stops.WithLabelValues(result).Inc()
}
