// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestCertificateExpiry: a process that serves no webhooks has no certificate that could expire, and must not set off the
// alert that it does; one that has none yet must, if that lasts.
func TestCertificateExpiry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	e := &expiry{}
	registry.MustRegister(e)
	gather := func() []float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var out []float64
		for _, f := range families {
			for _, m := range f.Metric {
				out = append(out, m.GetGauge().GetValue())
			}
		}
		return out
	}
	if got := gather(); len(got) != 0 {
		t.Errorf("without webhooks: %v", got)
	}
	var end time.Time
	at := func() time.Time { return end }
	e.at.Store(&at)
	if got := gather(); len(got) != 1 || got[0] != 0 {
		t.Errorf("before the first certificate: %v", got)
	}
	end = time.Now().Add(time.Hour)
	if got := gather(); len(got) != 1 || got[0] < 3500 || got[0] > 3600 {
		t.Errorf("an hour before its end: %v", got)
	}
}
