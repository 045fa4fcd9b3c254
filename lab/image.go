// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"kruise.io/kruise/lab/cluster"
	"kruise.io/kruise/lab/images"
)

// imageCommand puts images into the registry of a lab with real nodes.
func imageCommand(dir *string) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Put images into the registry of a lab with real nodes"}
	cmd.AddCommand(&cobra.Command{
		Use:   "push NAME:TAG ARCHIVE | PATH=PROGRAM...",
		Short: "Push an OCI archive, or an image made of static programs",
		Example: `  lab image push openkruise/kruise-manager:dev bin/images/kruise-manager.tar
  lab image push kruise:dev /manager=bin/kruise-manager /kruise-daemon=bin/kruise-daemon`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := cluster.ReadState(*dir)
			if err != nil {
				return err
			}
			address, ok := strings.CutPrefix(s.Registry, "http://")
			if !ok {
				return fmt.Errorf("the lab in %s has no registry: it has no real nodes", s.Dir)
			}
			if len(args) == 2 && !strings.Contains(args[1], "=") {
				return images.PushArchive(cmd.Context(), address, args[0], args[1])
			}
			programs := map[string]string{}
			for _, a := range args[1:] {
				to, from, ok := strings.Cut(a, "=")
				if !ok {
					return fmt.Errorf("%q is not PATH=PROGRAM", a)
				}
				programs[to] = from
			}
			return images.PushPrograms(cmd.Context(), address, args[0], programs)
		},
	})
	return cmd
}
