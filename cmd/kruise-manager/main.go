// SPDX-License-Identifier: Apache-2.0

// Command kruise-manager is the control plane of Kruise: controllers, admission webhooks and CRD conversion.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // cron schedules name time zones

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"kruise.io/kruise/internal/manager"
)

func main() {
	if os.Getenv("GOGC") == "" {
		// Its memory counts on every cluster; the processor time that this costs is small beside that of its requests.
		debug.SetGCPercent(50)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags, err := manager.ParseFlags(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Print(flags.Usage())
		return 0
	}
	if err == nil {
		err = logsapi.ValidateAndApply(flags.Logging, nil)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "kruise-manager: %s\n", oneLine(err))
		return 1
	}
	defer logs.FlushLogs()
	logger := klog.Background()
	ctrl.SetLogger(logger)
	if names := flags.NotYetEffective(); len(names) > 0 {
		klog.Warningf("Accepted, but not yet effective, because this version does not have the feature: %s", strings.Join(names, ", "))
	}
	if flags.LimitedVerbosity {
		klog.Warning("Logging at level 7: above it, the bodies of requests would be logged, and with them Secrets")
	}
	cfg, err := config(flags.Kubeconfig)
	if err != nil {
		logger.Error(errors.New(oneLine(err)), "No configuration for the apiserver")
		return 1
	}
	if err := manager.Run(ctrl.SetupSignalHandler(), cfg, flags.Options); err != nil {
		logger.Error(errors.New(oneLine(err)), "The manager ended")
		return 1
	}
	logger.Info("The manager ended as it was asked to")
	return 0
}

// config reads the kubeconfig that is named, else $KUBECONFIG, else uses the pod's service account.
func config(path string) (*rest.Config, error) {
	if path == "" {
		path = os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
	}
	if path == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", path)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
