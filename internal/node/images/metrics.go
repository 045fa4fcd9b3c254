// SPDX-License-Identifier: Apache-2.0

package images

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Metrics of the process (node-agent W14). Several agents in one process (tests) share them.
var (
	tasks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kruise_daemon_image_pulls_total", Help: "Images that were asked for, by how that ended: pulled, present or failed.",
	}, []string{"result"})
	taskSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "kruise_daemon_image_pull_duration_seconds", Help: "Time from the slot for a pull to its end, all attempts included.",
		Buckets: []float64{.1, .5, 1, 5, 15, 60, 180, 600, 1800},
	}, []string{"result"})
)

func init() { ctrlmetrics.Registry.MustRegister(tasks, taskSeconds) }

func count(result string, took time.Duration) {
	tasks.WithLabelValues(result).Inc()
	taskSeconds.WithLabelValues(result).Observe(took.Seconds())
}
