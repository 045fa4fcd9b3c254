// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics of the components
	_ "k8s.io/component-base/metrics/prometheus/version"  // build info metric of the components
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	kwoksignals "sigs.k8s.io/kwok/pkg/utils/signals"

	"kruise.io/kruise/lab/cluster"
	"kruise.io/kruise/lab/provisioner"
	"kruise.io/kruise/lab/realnode"
	"kruise.io/kruise/lab/registry"
)

const kubectlName = "kubectl"

// components maps the name a process runs under to its entry point. Entry points read os.Args and return the exit code.
var components = map[string]func() int{
	cluster.Etcd:              runEtcd,
	cluster.APIServer:         func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
	cluster.ControllerManager: func() int { return cli.Run(controllermanager.NewControllerManagerCommand()) },
	cluster.Scheduler:         func() int { return cli.Run(scheduler.NewSchedulerCommand()) },
	cluster.Kwok:              runKwok,
	cluster.Kubelet:           func() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) },
	cluster.Proxy:             func() int { return cli.Run(proxy.NewProxyCommand()) },
	realnode.Gateway:          func() int { return realnode.RunGateway(os.Args[1]) },
	realnode.Init:             func() int { return realnode.RunInit(os.Args[1]) },
	registry.Name:             func() int { return runRegistry(os.Args[1]) },
	provisioner.Name:          func() int { return provisioner.Run(os.Args[1]) },
	kubectlName:               runKubectl,
}

func runEtcd() int {
	etcdmain.Main(os.Args)
	return 0
}

func runKubectl() int {
	forgetGlobalFlags()
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

func runKwok() int {
	forgetGlobalFlags()
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	ctx, _ := kwoklog.InitFlags(kwoksignals.SetupSignalContext(), flags)
	ctx, err := kwokconfig.InitFlags(ctx, flags)
	if err == nil {
		command := kwok.NewCommand(ctx)
		command.PersistentFlags().AddFlagSet(flags)
		err = command.ExecuteContext(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kwok:", err)
		return 1
	}
	return 0
}

// forgetGlobalFlags keeps the flags that packages of the control plane register globally (--version among them) away
// from programs that don't know them.
func forgetGlobalFlags() {
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ExitOnError)
}

func runRegistry(configPath string) int {
	var c registry.Config
	if err := realnode.Load(configPath, &c); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		return 1
	}
	return registry.Run(c)
}
