// SPDX-License-Identifier: Apache-2.0

// Package restconfig names and throttles the clients of our processes, each of its components by itself.
package restconfig

import "k8s.io/client-go/rest"

// Limits throttle one client.
type Limits struct {
	// QPS is the requests per second; 0 or less means no throttle, since the apiserver protects itself by priority and
	// fairness.
	QPS   float64
	Burst int
}

// For returns a copy of cfg for a component of a process: with the user agent "process/component", or "process" alone
// for an empty component (platform 4.5, node-agent 4), and with the limits. Content types stay unset: the library then
// speaks protobuf for built-in types and JSON for ours.
func For(cfg *rest.Config, process, component string, l Limits) *rest.Config {
	c := rest.CopyConfig(cfg)
	c.UserAgent = process
	if component != "" {
		c.UserAgent += "/" + component
	}
	c.RateLimiter = nil
	c.QPS, c.Burst = float32(l.QPS), l.Burst
	if l.QPS <= 0 {
		c.QPS, c.Burst = -1, 0
	}
	return c
}
