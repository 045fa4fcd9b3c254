// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"kruise.io/kruise/lab/stages"
)

// auditPolicy logs who wrote what, when, and how it ended. Reads by the control plane itself would be most of the log
// and tell nothing, so they are left out, and so are the heartbeats of nodes. A watch is logged when it begins.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["*"]
- level: None
  namespaces: [kube-node-lease]
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
  verbs: [get, list, watch]
- level: None
  users: ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver", "lab:kwok", "lab:provisioner"]
  verbs: [get, list, watch]
- level: None
  verbs: [get, list, watch]
  resources:
  - group: coordination.k8s.io
    resources: [leases]
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
  - group: authorization.k8s.io
  - group: authentication.k8s.io
- level: Metadata
  verbs: [watch]
  omitStages: [ResponseComplete]
- level: Metadata
  omitStages: [ResponseStarted]
`

const schedulerConfig = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection:
  leaderElect: false
clientConnection:
  kubeconfig: %q
  qps: 2000
  burst: 4000
`

// kwokConfig lets KWOK work on many pods at once: a write takes milliseconds, most of them waiting for the apiserver.
// A lease is renewed every quarter of its duration, so a long one keeps idle nodes quiet.
const kwokConfig = `apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  cidr: %q
  podPlayStageParallelism: 16
  nodePlayStageParallelism: 2
  nodeLeaseParallelism: 4
  nodeLeaseDurationSeconds: 200
  podsOnNodeSyncParallelism: 2
`

// writeConfigs writes everything that components read at start.
func writeConfigs(f files, p Ports, d stages.Delays) error {
	if err := os.MkdirAll(filepath.Dir(f.config("x")), 0o700); err != nil {
		return err
	}
	for _, client := range []string{"controller-manager", "scheduler", "kwok", "provisioner"} {
		if err := f.writeKubeconfig(f.kubeconfig(client), client, p); err != nil {
			return err
		}
	}
	if err := f.writeKubeconfig(f.adminKubeconfig(), "admin", p); err != nil {
		return err
	}
	stageFile, err := stages.Render(d)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"audit-policy.yaml": auditPolicy,
		"scheduler.yaml":    fmt.Sprintf(schedulerConfig, f.kubeconfig("scheduler")),
		"kwok.yaml":         fmt.Sprintf(kwokConfig, podCIDR(0)) + "---\n" + string(stageFile),
	} {
		if err := os.WriteFile(f.config(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes a kubeconfig that stands alone: authority and client certificate are inside.
func (f files) writeKubeconfig(path, client string, p Ports) error {
	return f.writeKubeconfigFor(path, client, url(p.APIServer, ""), "")
}

// writeKubeconfigFor writes a kubeconfig for an apiserver that is reached at another URL than its own; serverName is
// the name that its certificate is checked for, default the URL's.
func (f files) writeKubeconfigFor(path, client, server, serverName string) error {
	ca, err := os.ReadFile(f.pki.crt(clusterCA))
	if err != nil {
		return err
	}
	crt, err := os.ReadFile(f.pki.crt(client))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(f.pki.key(client))
	if err != nil {
		return err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["lab"] = &clientcmdapi.Cluster{Server: server, TLSServerName: serverName, CertificateAuthorityData: ca}
	cfg.AuthInfos[client] = &clientcmdapi.AuthInfo{ClientCertificateData: crt, ClientKeyData: key}
	cfg.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: client}
	cfg.CurrentContext = "lab"
	return clientcmd.WriteToFile(*cfg, path)
}

// delays parses the durations of the state.
func (s *State) delays() (stages.Delays, error) {
	var d stages.Delays
	var err error
	if d.Start, err = time.ParseDuration(s.StartDelay); err != nil {
		return d, err
	}
	if d.Restart, err = time.ParseDuration(s.RestartDelay); err != nil {
		return d, err
	}
	d.Stop, err = time.ParseDuration(s.StopDelay)
	return d, err
}
