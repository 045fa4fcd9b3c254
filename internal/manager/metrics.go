// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"kruise.io/kruise/internal/metricsauth"
)

// Metrics of the process. Several managers in one process (tests) share them.
var (
	isLeader = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kruise_manager_is_leader", Help: "1 on the replica that runs the controllers, 0 on the others.",
	})
	controllerFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kruise_controller_failures_total", Help: "How often the controllers of a feature failed and were built anew.",
	}, []string{"feature"})
	// certificate tells when the one in use expires; nil in a process that serves no webhooks.
	certificate expiry
)

func init() {
	ctrlmetrics.Registry.MustRegister(isLeader, controllerFailures, missingPermission, &certificate)
}

var expiryDesc = prometheus.NewDesc("kruise_webhook_cert_expiry_seconds",
	"Seconds until the webhook's serving certificate expires; 0 before there is one. Absent where no webhooks are served.", nil, nil)

// expiry is a gauge of the time left. The zero value has no series.
type expiry struct {
	at atomic.Pointer[func() time.Time]
}

// Describe implements prometheus.Collector.
func (e *expiry) Describe(ch chan<- *prometheus.Desc) { ch <- expiryDesc }

// Collect implements prometheus.Collector.
func (e *expiry) Collect(ch chan<- prometheus.Metric) {
	f := e.at.Load()
	if f == nil {
		return
	}
	left := 0.0
	if end := (*f)(); !end.IsZero() {
		left = time.Until(end).Seconds()
	}
	ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, left)
}

// metricsOptions serve metrics, with MetricsSecure by HTTPS with the webhooks' certificate, or a self-signed one where there
// is none, and to those who may get /metrics.
func (m *Manager) metricsOptions() metricsserver.Options {
	o := metricsserver.Options{BindAddress: m.opts.MetricsAddr}
	if o.BindAddress == "" {
		o.BindAddress = "0"
	}
	if m.opts.MetricsSecure {
		o.SecureServing = true
		o.FilterProvider = metricsauth.New(m.live).Provider
		o.TLSOpts = []func(*tls.Config){func(c *tls.Config) {
			c.NextProtos = []string{"http/1.1"}
			if m.hooks != nil {
				c.GetCertificate = m.hooks.keeper.GetCertificate
			}
			c.MinVersion, c.CipherSuites = m.opts.Webhook.TLSMinVersion, m.opts.Webhook.CipherSuites
		}}
	}
	return o
}
