// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"kruise.io/kruise/lab/cluster"
)

// dirFromEnv lets a shell choose the lab once for all commands.
const dirFromEnv = "KRUISE_LAB_DIR"

func newCommand() *cobra.Command {
	var dir string
	root := &cobra.Command{
		Use:           "lab",
		Short:         "A real Kubernetes control plane with simulated nodes on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	def := os.Getenv(dirFromEnv)
	if def == "" {
		def = cluster.DefaultDir
	}
	root.PersistentFlags().StringVar(&dir, "dir", def, "directory of the lab (default from $"+dirFromEnv+")")
	root.AddCommand(upCommand(&dir), downCommand(&dir), statusCommand(&dir), kubeconfigCommand(&dir),
		logsCommand(&dir), nodesCommand(&dir), nodeCommand(&dir), imageCommand(&dir), kubectlCommand(&dir))
	return root
}

func upCommand(dir *string) *cobra.Command {
	var o cluster.Options
	var foreground, untilEOF bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the lab and return when its nodes take pods",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Dir = *dir
			o.Attached = foreground || untilEOF
			// Options take zero for "default"; on the command line zero means zero.
			for _, d := range []*time.Duration{&o.StartDelay, &o.RestartDelay, &o.StopDelay} {
				if *d == 0 {
					*d = -1
				}
			}
			if o.Nodes == 0 || o.RealNodes > 0 && !cmd.Flags().Changed("nodes") {
				o.Nodes = -1
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			lab, err := cluster.Up(ctx, o)
			if err != nil {
				return err
			}
			s := lab.State
			fmt.Printf("lab ready: Kubernetes %s, %d nodes, started in %.1f s\nexport KUBECONFIG=%s\n",
				s.KubernetesVersion, s.Nodes+s.RealNodes, s.StartSeconds, s.Kubeconfig)
			if !o.Attached {
				return nil
			}
			if untilEOF {
				go func() {
					obey(ctx, lab, os.Stdin)
					stop()
				}()
			}
			ended := lab.Wait(ctx.Done())
			err = lab.Stop(true)
			if ended != "" {
				err = errors.Join(fmt.Errorf("%s ended by itself; see `lab logs %s`", ended, ended), err)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 3, "simulated nodes")
	f.IntVar(&o.RealNodes, "real-nodes", 0, "nodes with a kubelet and a container runtime (root only; then --nodes is 0 unless given)")
	f.IntVar(&o.PodsPerNode, "pods-per-node", 250, "pods that a simulated node takes")
	f.DurationVar(&o.StartDelay, "start-delay", time.Second, "from a pod's arrival on its node to its containers running")
	f.DurationVar(&o.RestartDelay, "restart-delay", time.Second, "from a container's stop for a restart to it running again")
	f.DurationVar(&o.StopDelay, "stop-delay", 0, "from a pod's deletion to its end, at most its grace period")
	f.StringArrayVar(&o.APIServerArgs, "apiserver-arg", nil, "one more flag for the apiserver, such as --authorization-config=FILE; may be repeated")
	f.BoolVar(&o.Fresh, "fresh", false, "start empty, without the data of an earlier lab in this directory")
	f.BoolVar(&foreground, "foreground", false, "stay until interrupted, then stop; components never outlive this process")
	f.BoolVar(&untilEOF, "until-eof", false, "like --foreground, and also stop when standard input ends; obeys lines \"restart COMPONENT\" (for tests)")
	return cmd
}

// obey carries out what is asked for line by line, until the end: "restart COMPONENT".
func obey(ctx context.Context, lab *cluster.Lab, in io.Reader) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		name, ok := strings.CutPrefix(lines.Text(), "restart ")
		if !ok {
			continue
		}
		if err := lab.Restart(ctx, name); err != nil {
			fmt.Printf("restart of %s failed: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		fmt.Printf("restarted %s\n", name)
	}
}

func downCommand(dir *string) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the lab and remove its files",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			err := cluster.Down(*dir, keep)
			if errors.Is(err, cluster.ErrNoLab) {
				fmt.Fprintln(os.Stderr, err)
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep data and logs, so that `lab up` continues with the same cluster")
	return cmd
}

func statusCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what runs; exit code 1 when the lab is not complete",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := cluster.ReadState(*dir)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			missing := 0
			fmt.Fprintln(w, "COMPONENT\tSTATE\tPID\tLOG")
			for _, p := range s.Processes {
				state := "running"
				if !p.Alive() {
					state = "gone"
					missing++
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", p.Name, state, p.PID, p.Log)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Printf("\nserver      %s (%s)\nnodes       %d, %d pods each\ndelays      start %s, restart %s, stop %s\nkubeconfig  %s\naudit log   %s\n",
				s.Server, s.KubernetesVersion, s.Nodes, s.PodsPerNode, s.StartDelay, s.RestartDelay, s.StopDelay, s.Kubeconfig, s.AuditLog)
			if missing > 0 || len(s.Processes) == 0 || !s.Ready {
				return fmt.Errorf("the lab in %s is not running completely; `lab up` brings it back", s.Dir)
			}
			return nil
		},
	}
}

func kubeconfigCommand(dir *string) *cobra.Command {
	var path bool
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the line that points a shell at the lab: eval \"$(lab kubeconfig)\"",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := cluster.ReadState(*dir)
			if err != nil {
				return err
			}
			if path {
				fmt.Println(s.Kubeconfig)
			} else {
				fmt.Printf("export KUBECONFIG=%s\n", s.Kubeconfig)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&path, "path", false, "print the path only")
	return cmd
}

func nodesCommand(dir *string) *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "nodes --count N",
		Short: "Change the number of simulated nodes of a running lab",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cluster.Scale(cmd.Context(), *dir, count)
			return err
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "simulated nodes wanted")
	_ = cmd.MarkFlagRequired("count")
	return cmd
}

func logsCommand(dir *string) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [component]",
		Short: "Print a component's log, or where the logs are",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			logs := filepath.Join(*dir, "logs")
			if len(args) == 0 {
				entries, err := filepath.Glob(filepath.Join(logs, "*.log"))
				for _, e := range entries {
					fmt.Println(e)
				}
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return copyLog(ctx, os.Stdout, filepath.Join(logs, filepath.Base(args[0])+".log"), follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the log grows")
	return cmd
}

func copyLog(ctx context.Context, w io.Writer, path string, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := io.Copy(w, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func kubectlCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [--dir DIR] -- ...",
		Short: "Run kubectl against the lab (set $" + dirFromEnv + " for a lab elsewhere than " + cluster.DefaultDir + ")",
		// Everything after the word is kubectl's, save --dir right behind it.
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) >= 2 && args[0] == "--dir" {
				*dir, args = args[1], args[2:]
			}
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			s, err := cluster.ReadState(*dir)
			if err != nil {
				return err
			}
			if err := os.Setenv("KUBECONFIG", s.Kubeconfig); err != nil {
				return err
			}
			os.Args = append([]string{kubectlName}, args...)
			os.Exit(runKubectl())
			return nil
		},
	}
}
