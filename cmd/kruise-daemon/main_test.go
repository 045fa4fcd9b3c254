// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"kruise.io/kruise/internal/node"
)

func TestParse(t *testing.T) {
	var o node.Options
	if _, err := parse([]string{"--feature-gates=KruiseDaemon=false", "--expectation-timeout=1m", "--rate-limiter-qps=3", "--v=4", "--enable-pprof=false"}, &o); err != nil {
		t.Fatal(err)
	}
	if o.Gates.Enabled("DaemonWatchingPod") || o.PprofAddr != "0" || o.Addr != ":10221" || o.MaxWorkersForPullImage != -1 {
		t.Errorf("options %+v", o)
	}
	if _, err := parse([]string{"--feature-gates=Unknown=true"}, &o); err == nil {
		t.Error("accepts an unknown gate")
	}
}

func TestStart(t *testing.T) {
	for name, tc := range map[string]struct {
		o    node.Options
		want string
	}{
		"S_node_agent_1":             {node.Options{}, "not found NODE_NAME in environments"},
		"S_platform_30":              {node.Options{NodeName: "n", SocketDir: t.TempDir()}, "not found container runtime sock"},
		"S_platform_30/socket-file=": {node.Options{NodeName: "n", SocketDir: t.TempDir(), SocketFile: "x.sock"}, "x.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := node.Run(context.Background(), &rest.Config{}, tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
