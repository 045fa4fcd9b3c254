// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"kruise.io/kruise/lab/cluster"
)

// nodeCommand works on single real nodes.
func nodeCommand(dir *string) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Crash, start or enter a real node of a running lab"}
	cmd.AddCommand(&cobra.Command{
		Use:   "crash NODE",
		Short: "Kill everything on a real node at once; its disk stays",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return cluster.CrashNode(*dir, args[0]) },
	}, &cobra.Command{
		Use:   "start NODE",
		Short: "Start a real node that crashed, and return when it takes pods",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return cluster.StartNode(ctx, *dir, args[0])
		},
	}, &cobra.Command{
		Use:   "exec NODE -- COMMAND...",
		Short: "Run a command on a real node, or in the nodes' network (NODE gateway)",
		Args:  cobra.MinimumNArgs(2),
		RunE:  func(_ *cobra.Command, args []string) error { return cluster.NodeExec(*dir, args[0], args[1:]) },
	})
	return cmd
}
