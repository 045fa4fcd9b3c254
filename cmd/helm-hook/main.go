// SPDX-License-Identifier: Apache-2.0

// Command helm-hook is /helm_hook of the image. Without a command it is the uninstall guard: it fails while objects exist
// that own pods, so that `helm uninstall` deletes nothing (platform 8.4). The command `test` checks that an installation
// works; `helm test` runs it. The command `preflight` waits until the apiserver reaches the webhooks (platform W2); it runs
// after an installation or upgrade. The command `migrate` stores objects in the storage version after an upgrade (platform
// W8).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	command := "guard"
	if len(args) > 0 && slices.Contains([]string{"test", "migrate", "preflight"}, args[0]) {
		command, args = args[0], args[1:]
	}
	fs := flag.NewFlagSet("helm_hook "+command, flag.ContinueOnError)
	var at apiserver
	fs.StringVar(&at.server, "server", inClusterServer(), "URL of the apiserver.")
	fs.StringVar(&at.tokenFile, "token-file", accountDir+"/token", "File of the bearer token.")
	fs.StringVar(&at.caFile, "ca-file", accountDir+"/ca.crt", "File of the apiserver's CA.")
	everything := fs.Bool("everything", false, "Guard every kind: the CustomResourceDefinitions will be deleted, too.")
	namespace := fs.String("namespace", "kruise-system", "Namespace of the manager.")
	agents := fs.String("daemon-namespace", "", "Namespace of the agents; empty if there are none.")
	controllers := fs.Bool("separate-controllers", false, "The controllers have a Deployment of their own.")
	limit := fs.Duration("timeout", time.Minute, "Time for an installation to work, for objects to be migrated, or for the manager to end.")
	settle := fs.Duration("settle", 5*time.Second, "Time that apiservers need to learn of a storage version.")
	finishing := fs.Bool("finish", false, "After the guard, end what only a manager could: finalizers would keep objects and namespaces.")
	strict := fs.Bool("strict", false, "Fail if an object can't be migrated.")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err := at.connect(); err != nil {
		return err
	}
	switch command {
	case "test":
		return test(ctx, &at, out, installation{*namespace, *agents, *controllers}, *limit)
	case "migrate":
		return untilDone(ctx, &at, out, *settle, *limit, *strict)
	case "preflight":
		return preflight(ctx, &at, out, *namespace, *limit)
	default:
		if err := guard(ctx, &at, out, *everything); err != nil || !*finishing {
			return err
		}
		return finish(ctx, &at, out, *namespace, *limit)
	}
}
