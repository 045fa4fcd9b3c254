// SPDX-License-Identifier: Apache-2.0

// Command kruise-daemon is the node agent of Kruise: it pulls images and restarts containers on its node.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	o := node.Options{NodeName: os.Getenv("NODE_NAME"), SocketDir: "/hostvarrun", ConfigNamespace: os.Getenv("KRUISE_DAEMON_CONFIG_NS"), Log: klog.Background()}
	// The kubelet tells pods of the Service's namespace where it is, so that no cluster DNS is needed.
	if host := os.Getenv("KRUISE_WEBHOOK_SERVICE_SERVICE_HOST"); host != "" {
		o.BrokerAddress = net.JoinHostPort(host, os.Getenv("KRUISE_WEBHOOK_SERVICE_SERVICE_PORT"))
	}
	if o.ConfigNamespace == "" {
		o.ConfigNamespace = "kruise-daemon-config"
	}
	kubeconfig, err := parse(args, &o)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "kruise-daemon: %v\n", err)
		return 1
	}
	defer klog.Flush()
	ctrl.SetLogger(o.Log)
	cfg, err := config(kubeconfig)
	if err == nil || o.NodeName == "" { // what the process itself lacks is told first
		ctx := ctrl.SetupSignalHandler()
		if err == nil && cfg.BearerTokenFile != "" { // in a pod, one of many: an upgrade starts them all
			spread(ctx)
		}
		err = node.Run(ctx, cfg, o)
	}
	if err != nil {
		o.Log.Error(err, "The agent ended")
		return 1
	}
	return 0
}

// startSpread bounds how long an agent waits before its first lists (security 5.12).
const startSpread = 5 * time.Second

// spread waits for a random time, or until ctx ends.
func spread(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(startSpread)):
	}
}

// parse reads the command line (platform 3.2).
func parse(args []string, o *node.Options) (kubeconfig string, err error) {
	fs := pflag.NewFlagSet("kruise-daemon", pflag.ContinueOnError)
	set, profile := map[string]bool{}, false
	fs.StringVar(&kubeconfig, "kubeconfig", "", "Configuration for the apiserver; empty means the pod's service account.")
	fs.StringVar(&o.Addr, "addr", ":10221", "Address of /metrics and /healthz.")
	fs.BoolVar(&o.MetricsSecure, "metrics-secure", false, "Serve /metrics on --secure-metrics-addr by HTTPS, to users that may get that path; --addr then has /healthz only.")
	fs.StringVar(&o.SecureMetricsAddr, "secure-metrics-addr", ":10223", "Address of /metrics with --metrics-secure.")
	fs.BoolVar(&profile, "enable-pprof", false, "Serve profiles.")
	fs.StringVar(&o.PprofAddr, "pprof-addr", "localhost:10222", "Address of profiles. Keep it on loopback: a heap profile can hold secrets.")
	fs.StringVar(&o.SocketFile, "socket-file", "", "File of the CRI socket below /hostvarrun; empty looks for the known ones.")
	fs.StringVar(&o.SocketDir, "socket-dir", o.SocketDir, "Directory that the host's sockets are mounted at.")
	fs.StringSliceVar(&o.Endpoints, "runtime-endpoint", nil, "CRI endpoints such as unix:///run/containerd/containerd.sock, instead of looking for sockets.")
	fs.IntVar(&o.MaxWorkersForPullImage, "max-workers-for-pull-image", -1, "Greatest number of pulls at once; 0 or less means no limit.")
	fs.IntVar(&o.RestartWorkers, "crr-workers", node.DefaultRestartWorkers, "Pods whose ContainerRecreateRequests are executed at once.")
	fs.IntVar(&o.MetaWorkers, "container-meta-workers", node.DefaultMetaWorkers, "Pods whose containers are reported at once.")
	fs.StringVar(&o.PluginConfigFile, "plugin-config-file", "/kruise/CredentialProviderPlugin.yaml", "CredentialProviderConfig of the kubelet's kind; may be missing.")
	fs.StringVar(&o.PluginBinDir, "plugin-bin-dir", "/kruise/plugins", "Directory of credential provider plugins.")
	fs.Float64Var(&o.QPS, "rest-config-qps", 0, "Requests per second of each client; 0 means no limit.")
	fs.IntVar(&o.Burst, "rest-config-burst", 0, "Burst of requests of each client.")
	fs.StringSliceVar(&o.AllowedRegistries, "allowed-registries", nil, "Hosts or host/path prefixes that images may be pulled from; empty means all.")
	fs.IntVar(&o.ImageMinFreePercent, "image-min-free-percent", 10, "Pulls wait while less of the filesystem of images is free; 0 means never.")
	fs.StringVar(&o.SecretDelivery, "secret-delivery", credentials.DeliveryNamespace, "How pull secrets come: namespace has them read as copies, broker has the manager asked for what one image needs. The same as the manager's.")
	fs.StringVar(&o.BrokerURL, "broker-url", "https://kruise-webhook-service.kruise-system.svc"+credentials.BrokerPath, "Where the manager is asked with --secret-delivery=broker.")
	fs.StringVar(&o.BrokerDir, "broker-dir", "/kruise/broker", "Directory of a projected volume with ca.crt of ConfigMap "+credentials.CAConfigMap+" and a token of audience "+credentials.BrokerAudience+".")
	fs.BoolVar(&o.AllowPreStopHost, "allow-prestop-host", false, "Let HTTP preStop hooks name a host other than the pod.")
	fs.StringVar(&o.ManagerNamespace, "manager-namespace", "kruise-system", "Namespace of the manager, whose feature gates are compared with these; empty means not to.")
	fs.Var(cliflag.NewMapStringBool(&set), "feature-gates", "Comma list of Name=true|false; the same as the manager's.")
	// Flags that the manager and the agent share in other deployments; without effect here.
	fs.Duration("expectation-timeout", 5*time.Minute, "Without effect.")
	for _, name := range []string{"rate-limiter-base-delay", "rate-limiter-max-delay"} {
		fs.Duration(name, 0, "Without effect.")
	}
	fs.Float64("rate-limiter-qps", 0, "Without effect.")
	fs.Int("rate-limiter-bucket-size", 0, "Without effect.")
	legacy := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(legacy)
	fs.AddGoFlagSet(legacy)
	if err := fs.Parse(args); err != nil {
		return "", err
	}
	if !profile {
		o.PprofAddr = "0"
	}
	if o.SecretDelivery != credentials.DeliveryNamespace && o.SecretDelivery != credentials.DeliveryBroker {
		return "", fmt.Errorf("--secret-delivery must be namespace or broker, not %q", o.SecretDelivery)
	}
	if o.ImageMinFreePercent < 0 || o.ImageMinFreePercent > 100 {
		return "", fmt.Errorf("--image-min-free-percent must be 0 to 100, not %d", o.ImageMinFreePercent)
	}
	if o.RestartWorkers <= 0 || o.MetaWorkers <= 0 {
		return "", errors.New("--crr-workers and --container-meta-workers must be positive")
	}
	if o.Gates, err = gates.FromMap(set); err != nil {
		return "", fmt.Errorf("--feature-gates: %w", err)
	}
	return kubeconfig, nil
}

func config(path string) (*rest.Config, error) {
	if path == "" {
		path = os.Getenv("KUBECONFIG")
	}
	if path != "" {
		return clientcmd.BuildConfigFromFlags("", path)
	}
	return rest.InClusterConfig()
}
