// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
)

// There is nothing to run in Kruise's containers but Kruise. What else the image holds, images/images_test.go looks at.
func TestS_security_39_NoShell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsRelease()
	for _, controlPlane := range []string{"controller-manager", "daemon"} {
		pods, err := systemPods(w.ctx, controlPlane)
		w.must(err)
		if len(pods) == 0 {
			t.Fatalf("no pod with control-plane=%s", controlPlane)
		}
		for _, shell := range []string{"sh", "/bin/sh", "/busybox/sh"} {
			out, err := shared.Kubectl(w.ctx, "", "exec", "--namespace", pods[0].Namespace, pods[0].Name, "--", shell, "-c", "true")
			if err == nil || !strings.Contains(out, "no such file") && !strings.Contains(out, "not found") {
				t.Errorf("%s: %s: %v: %s", pods[0].Name, shell, err, out)
			}
		}
	}
}
