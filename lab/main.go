// SPDX-License-Identifier: Apache-2.0

// Command lab runs a real Kubernetes control plane on one machine: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and, for simulated nodes, KWOK with Stages of our own. All of them are linked into this one binary;
// each runs as a process of its own, started by executing the binary under the component's name (argv[0]), so that
// `ps`, user agents and audit entries show the usual names.
//
// See docs/lab.md for how to use it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if run, ok := components[filepath.Base(os.Args[0])]; ok {
		os.Exit(run())
	}
	if len(os.Args) > 1 {
		// `lab kube-apiserver --help` shows a component's own flags.
		if run, ok := components[os.Args[1]]; ok && os.Args[1] != kubectlName {
			os.Args = os.Args[1:]
			os.Exit(run())
		}
	}
	forgetGlobalFlags()
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}
