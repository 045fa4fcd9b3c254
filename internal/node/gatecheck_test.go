// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/gates"
)

// published is a reader of one ConfigMap.
type published struct {
	client.Reader
	data map[string]string
	err  error
	asks int
}

// Get implements client.Reader.
func (p *published) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	p.asks++
	if key.String() != "kruise-system/kruise-feature-gates" {
		return errors.New("not mine")
	}
	obj.(*corev1.ConfigMap).Data = p.data
	return p.err
}

// A difference is told once it has lasted, once; an upgrade that changes managers and agents one after the other, and
// not being able to compare, are no reason to.
func TestGateCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := gates.Published(gates.New())
		other := gates.Published(gates.New())
		other["DaemonWatchingPod"] = "false"
		p := &published{data: other}
		events := record.NewFakeRecorder(10)
		c := &gateCheck{reader: p, key: client.ObjectKey{Namespace: "kruise-system", Name: gates.ConfigMap}, gates: gates.New(),
			recorder: events, node: &corev1.ObjectReference{Kind: "Node", Name: "n"}, log: logr.Discard()}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { c.run(ctx); close(ended) }()
		expect := func(when string, told bool) {
			t.Helper()
			synctest.Wait()
			got := ""
			if len(events.Events) > 0 {
				got = <-events.Events
			}
			if told != (got == "Warning FeatureGateMismatch The manager of Kruise has other feature gates than the node agent: DaemonWatchingPod is true here and false there") || !told && got != "" {
				t.Errorf("%s: event %q", when, got)
			}
		}
		mismatch := func() float64 {
			m := &dto.Metric{}
			if err := gateMismatch.WithLabelValues("DaemonWatchingPod").Write(m); err != nil {
				t.Fatal(err)
			}
			return m.GetGauge().GetValue()
		}
		time.Sleep(2 * time.Minute)
		expect("at first", false)
		p.data = same
		time.Sleep(time.Hour)
		expect("after an upgrade", false)
		p.data = other
		time.Sleep(time.Hour)
		expect("for an hour", true)
		if mismatch() != 1 {
			t.Error("the metric does not tell")
		}
		time.Sleep(24 * time.Hour)
		expect("for a day", false)
		p.err = errors.New("forbidden")
		time.Sleep(time.Hour)
		expect("nothing to compare with", false)
		p.err, p.data = nil, same
		time.Sleep(time.Hour)
		expect("the same again", false)
		if mismatch() != 0 {
			t.Error("the metric still tells")
		}
		before := p.asks
		time.Sleep(24 * time.Hour)
		if n := p.asks - before; n > 48 {
			t.Errorf("asked %d times a day", n)
		}
		cancel()
		<-ended
	})
}

func TestGateCheckText(t *testing.T) {
	g, err := gates.FromMap(map[string]bool{"KruiseDaemon": false})
	if err != nil {
		t.Fatal(err)
	}
	events := record.NewFakeRecorder(1)
	c := &gateCheck{gates: g, recorder: events, log: logr.Discard()}
	c.tell(gates.OfAgent)
	if got := <-events.Events; !strings.Contains(got, "KruiseDaemon is false here and true there, DaemonWatchingPod is false here and true there, InPlace") {
		t.Errorf("event %q", got)
	}
}
