// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"strconv"

	"k8s.io/component-base/featuregate"
)

// ConfigMap is where the manager publishes its gates, in its own namespace: one key per gate, "true" or "false". Agents
// compare theirs with it (node-agent W18).
const ConfigMap = "kruise-feature-gates"

// OfAgent are the gates that an agent and the manager must agree on.
var OfAgent = []featuregate.Feature{KruiseDaemon, DaemonWatchingPod, InPlaceUpdateEnvFromMetadata}

// Published is the content of the ConfigMap: all gates, as they are after the dependency rules.
func Published(g featuregate.FeatureGate) map[string]string {
	data := map[string]string{}
	for _, gate := range All() {
		data[string(gate.Name)] = strconv.FormatBool(g.Enabled(gate.Name))
	}
	return data
}

// Differing returns those of OfAgent that a manager published otherwise than g has them, in their order. What it did not
// publish, or not as a boolean, differs from nothing.
func Differing(g featuregate.FeatureGate, published map[string]string) []featuregate.Feature {
	var out []featuregate.Feature
	for _, name := range OfAgent {
		if value, err := strconv.ParseBool(published[string(name)]); err == nil && value != g.Enabled(name) {
			out = append(out, name)
		}
	}
	return out
}
