// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/component-base/featuregate"
)

// What a manager publishes is what it has after the dependency rules, and agents find what differs of theirs.
func TestPublished(t *testing.T) {
	off, err := FromMap(map[string]bool{string(KruiseDaemon): false})
	if err != nil {
		t.Fatal(err)
	}
	data := Published(off)
	if len(data) != len(All()) || data["KruiseDaemon"] != "false" || data["DaemonWatchingPod"] != "false" || data["PodWebhook"] != "true" {
		t.Errorf("published %v", data)
	}
	if got := Differing(off, data); got != nil {
		t.Errorf("differs from itself: %v", got)
	}
	for name, c := range map[string]struct {
		published map[string]string
		want      []featuregate.Feature
	}{
		"all off":           {data, OfAgent},
		"nothing":           {nil, nil},
		"another version":   {map[string]string{"ToCome": "true", "KruiseDaemon": "maybe", "DaemonWatchingPod": ""}, nil},
		"not of agents":     {map[string]string{"ImagePullJobGate": "true"}, nil},
		"the same":          {map[string]string{"KruiseDaemon": "true"}, nil},
		"one of them":       {map[string]string{"KruiseDaemon": "true", "DaemonWatchingPod": "false"}, []featuregate.Feature{DaemonWatchingPod}},
		"in another manner": {map[string]string{"DaemonWatchingPod": "F"}, []featuregate.Feature{DaemonWatchingPod}},
	} {
		if diff := cmp.Diff(c.want, Differing(New(), c.published)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
