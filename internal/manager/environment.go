// SPDX-License-Identifier: Apache-2.0

package manager

import "os"

// Variable is an environment variable that the manager reads (platform 3.3).
type Variable struct {
	Name, Default, Doc string
}

// Environment lists the environment variables that the manager reads.
func Environment() []Variable {
	return []Variable{
		{"POD_NAMESPACE", "kruise-system", "The manager's own namespace: its certificate Secret, its Service, its ConfigMap."},
		{"KRUISE_DAEMON_CONFIG_NS", "kruise-daemon-config", "Where pull secrets are copied for the node agents."},
		{"WEBHOOK_PORT", "9876", "Port of the webhook server. What is no port number ends the process."},
		{"WEBHOOK_HOST", "", "When set, configurations and CRDs name https://host:port instead of the Service, and the certificate is for the host."},
		{"WEBHOOK_CERT_DIR", "/tmp/kruise-webhook-certs", "Where certificate files are written (0700, files 0600); their source with WEBHOOK_CERT_WRITER=fs."},
		{"WEBHOOK_CERT_WRITER", "", "fs: certificates come from WEBHOOK_CERT_DIR. secret: from the Secret. Empty: fs if WEBHOOK_HOST is set, else secret."},
		{"SECRET_NAME", "kruise-webhook-certs", "Name of the certificate Secret."},
		{"SERVICE_NAME", "kruise-webhook-service", "Name of the Service in front of the webhook servers."},
		{"CERTS_RENEW_BEFORE", "180d", "How long before their end certificates are replaced: a number and d, m (30 days) or y (365 days); anything else is the default. Never more than a third of the certificate's life."},
		{"CUSTOM_RESOURCE_ENABLE", "", "Legacy. A list of kinds that lacks SidecarSet turns the default of gate PodWebhook off."},
		{"KUBE_CACHE_MUTATION_DETECTOR", "", "true: the process panics when something changes an object of its caches. For tests."},
		{"KUBECONFIG", "", "Kubeconfig, if --kubeconfig is not given."},
		{"GOGC", "50", "Go's garbage collector target; the default keeps memory small."},
		{"GOMEMLIMIT", "", "Go's soft memory limit; set it somewhat below the container's limit."},
	}
}

// env is the value of a variable of Environment, its default if it is not set.
func env(name string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	for _, v := range Environment() {
		if v.Name == name {
			return v.Default
		}
	}
	panic("environment variable " + name + " is not listed") // programmer's error, caught by every test
}
