// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"kruise.io/kruise/internal/manager/gates"
)

const (
	// gateCheckPeriod is how often the gates are compared with the manager's, within a tenth of it; the first time is
	// after a quarter of gateCheckAgain.
	gateCheckPeriod = 30 * time.Minute
	// gateCheckAgain is the wait before a difference counts: an upgrade changes managers and agents one after the other.
	gateCheckAgain = 4 * time.Minute
)

var gateMismatch = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "kruise_daemon_feature_gate_mismatch", Help: "1 for a feature gate that the manager has otherwise than this agent, 0 for one that they agree on.",
}, []string{"gate"})

func init() { ctrlmetrics.Registry.MustRegister(gateMismatch) }

// gateCheck warns if the manager has other feature gates than the agent. Whether it can find out matters to nobody else
// (node-agent W18).
type gateCheck struct {
	reader   client.Reader // gets one ConfigMap by name
	key      client.ObjectKey
	gates    featuregate.FeatureGate
	recorder record.EventRecorder
	node     *corev1.ObjectReference
	log      logr.Logger
	// again is gateCheckAgain unless set.
	again time.Duration

	told []featuregate.Feature // that were warned of
}

// run compares until ctx ends.
func (c *gateCheck) run(ctx context.Context) {
	again := cmp.Or(c.again, gateCheckAgain)
	wait, suspected := again/4, []featuregate.Feature(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait + rand.N(1+wait/10)):
		}
		wait = gateCheckPeriod
		differing, err := c.compare(ctx)
		switch {
		case err != nil:
			c.log.V(1).Info("The manager's feature gates can't be read, so they are not compared", "configMap", c.key, "reason", err.Error())
		case len(differing) > 0 && !slices.Equal(differing, suspected):
			suspected, wait = differing, again
		default:
			suspected = differing
			c.tell(differing)
		}
	}
}

func (c *gateCheck) compare(ctx context.Context) ([]featuregate.Feature, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cm := &corev1.ConfigMap{}
	if err := c.reader.Get(ctx, c.key, cm); err != nil {
		return nil, err
	}
	return gates.Differing(c.gates, cm.Data), nil
}

// tell reports what differs, each difference once.
func (c *gateCheck) tell(differing []featuregate.Feature) {
	for _, gate := range gates.OfAgent {
		value := 0.0
		if slices.Contains(differing, gate) {
			value = 1
		}
		gateMismatch.WithLabelValues(string(gate)).Set(value)
	}
	if slices.Equal(differing, c.told) {
		return
	}
	c.told = differing
	if len(differing) == 0 {
		c.log.Info("The manager has the same feature gates again")
		return
	}
	var list []string
	for _, gate := range differing {
		list = append(list, fmt.Sprintf("%s is %t here and %t there", gate, c.gates.Enabled(gate), !c.gates.Enabled(gate)))
	}
	text := strings.Join(list, ", ")
	c.log.Error(nil, "The manager has other feature gates; give both the same --feature-gates", "gates", text)
	c.recorder.Eventf(c.node, corev1.EventTypeWarning, "FeatureGateMismatch", "The manager of Kruise has other feature gates than the node agent: %s", text)
}
