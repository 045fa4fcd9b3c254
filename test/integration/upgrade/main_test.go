// SPDX-License-Identifier: Apache-2.0

// Package upgrade proves that a cluster that ran OpenKruise 1.9 can run Kruise instead: its objects, as that version left
// them in the apiserver, are taken over and no pod notices.
package upgrade

import (
	"os"
	"testing"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

var kruise *cluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(lab.Main(m, lab.Options{Nodes: 2}, func(l *lab.Lab) (err error) {
		kruise, err = cluster.Of(l)
		return err
	}))
}
