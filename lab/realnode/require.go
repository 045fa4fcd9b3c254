// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Check finds out early what would make real nodes fail here, and says what to do about it.
func Check() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("real nodes need Linux")
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("real nodes need root: they mount file systems and make namespaces")
	}
	var missing []string
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "runc", "iptables", "nsenter", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	for _, plugin := range []string{"ptp", "host-local", "portmap", "loopback"} {
		if _, err := os.Stat(filepath.Join("/usr/lib/cni", plugin)); err != nil {
			missing = append(missing, "CNI plugin "+plugin)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("real nodes need %s: install them with hack/install-node-deps.sh", strings.Join(missing, ", "))
	}
	return nil
}
