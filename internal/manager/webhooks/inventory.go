// SPDX-License-Identifier: Apache-2.0

// Package webhooks knows every admission webhook of Kruise, serves them, and keeps the cluster's webhook configurations
// and CRD conversion stanzas pointing at this manager (platform 5.4, 7).
package webhooks

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/component-base/featuregate"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/noderestriction"
	"kruise.io/kruise/internal/podadmission/concern"
)

// Names of the configuration objects; contract (platform 2.2).
const (
	MutatingConfiguration   = "kruise-mutating-webhook-configuration"
	ValidatingConfiguration = "kruise-validating-webhook-configuration"
	// ConvertPath is where CRD conversion is served.
	ConvertPath = "/convert"
)

// MatchConditionName is the one match condition that the manager keeps in step with what exists; others are left alone.
const MatchConditionName = "kruise-concerns"

// Entry is one webhook. Paths and names are contract: documentation and alerts quote them (platform 7.2).
type Entry struct {
	Name        string
	Path        string
	Mutating    bool
	Operations  []admissionv1.OperationType
	Groups      []string
	Versions    []string
	Resources   []string
	SideEffects admissionv1.SideEffectClass
	// SkipSystemNamespaces keeps kube-system and Kruise's own namespace out: what runs there must never depend on us.
	SkipSystemNamespaces bool
	// Gate switches the webhook; empty means always.
	Gate featuregate.Feature
	// OfAgents limits the webhook to requests of the node agents' account, by a match condition of its own.
	OfAgents bool
	// Pods are the requests of a pod webhook. It carries a match condition that keeps unconcerned pods in the apiserver.
	Pods []concern.Request
}

// agentsWebhook is not in OpenKruise (security 5.2); agentsCondition keeps requests of others in the apiserver.
const (
	agentsWebhook   = "vdaemonrequest.kb.io"
	agentsCondition = "is-daemon"
)

var (
	create       = []admissionv1.OperationType{admissionv1.Create}
	createUpdate = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
	all          = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete}
	bothVersions = []string{"v1alpha1", "v1beta1"}
)

// Inventory is the one list of webhooks that this version serves, in the order of the manifests. config/webhook is
// generated from it and the manager keeps live configurations in step with it.
func Inventory() []Entry {
	return []Entry{
		{
			Name: "mpod.kb.io", Path: "/mutate-pod", Mutating: true, Operations: create,
			Groups: []string{""}, Versions: []string{"v1"}, Resources: []string{"pods"},
			SideEffects: admissionv1.SideEffectClassNoneOnDryRun, SkipSystemNamespaces: true,
			Gate: gates.PodWebhook, Pods: []concern.Request{concern.Create},
		},
		kruise("mcloneset.kb.io", "/mutate-apps-kruise-io-cloneset", true, createUpdate, "clonesets"),
		kruise("mcontainerrecreaterequest.kb.io", "/mutate-apps-kruise-io-containerrecreaterequest", true, createUpdate, "containerrecreaterequests"),
		kruise("mimagelistpulljob-v1beta1.kb.io", "/mutate-apps-kruise-io-imagelistpulljob", true, createUpdate, "imagelistpulljobs"),
		kruise("mimagepulljob-v1beta1.kb.io", "/mutate-apps-kruise-io-imagepulljob", true, createUpdate, "imagepulljobs"),
		kruise("mnodeimage.kb.io", "/mutate-apps-kruise-io-nodeimage", true, createUpdate, "nodeimages"),
		kruise("vcloneset.kb.io", "/validate-apps-kruise-io-cloneset", false, all, "clonesets"),
		kruise("vcontainerrecreaterequest.kb.io", "/validate-apps-kruise-io-containerrecreaterequest", false, createUpdate, "containerrecreaterequests"),
		kruise("vimagepulljob-v1beta1.kb.io", "/validate-apps-kruise-io-imagepulljob", false, createUpdate, "imagepulljobs"),
		kruise("vimagelistpulljob-v1beta1.kb.io", "/validate-apps-kruise-io-imagelistpulljob", false, createUpdate, "imagelistpulljobs"),
		kruise("vnodeimage.kb.io", "/validate-apps-kruise-io-nodeimage", false, createUpdate, "nodeimages"),
		{
			Name: agentsWebhook, Path: noderestriction.Path, Operations: all, Gate: gates.DaemonRestrictionWebhook, OfAgents: true,
			Groups: []string{"", "events.k8s.io", "apps.kruise.io"}, Versions: []string{"*"},
			Resources:   []string{"nodeimages/status", "nodepodprobes/status", "containerrecreaterequests/status", "pods/status", "events"},
			SideEffects: admissionv1.SideEffectClassNone,
		},
	}
}

// kruise is a webhook for one of our kinds.
func kruise(name, path string, mutating bool, ops []admissionv1.OperationType, resource string) Entry {
	return Entry{
		Name: name, Path: path, Mutating: mutating, Operations: ops,
		Groups: []string{"apps.kruise.io"}, Versions: bothVersions, Resources: []string{resource},
		SideEffects: admissionv1.SideEffectClassNone,
	}
}

// Enabled tells whether the entry is served under the gates.
func (e Entry) Enabled(g featuregate.FeatureGate) bool { return e.Gate == "" || g.Enabled(e.Gate) }

// contract are all webhooks that OpenKruise 1.9 or some version of Kruise serves, by name (platform 7.2). A live entry of
// this list that we don't serve is removed; an entry of any other name and path belongs to a version we don't know and is
// left alone.
var contract = map[string]string{
	"mpod.kb.io":                      "/mutate-pod",
	"madvancedcronjob.kb.io":          "/mutate-apps-kruise-io-advancedcronjob",
	"mbroadcastjob.kb.io":             "/mutate-apps-kruise-io-broadcastjob",
	"mcloneset.kb.io":                 "/mutate-apps-kruise-io-cloneset",
	"mcontainerrecreaterequest.kb.io": "/mutate-apps-kruise-io-containerrecreaterequest",
	"mdaemonset.kb.io":                "/mutate-apps-kruise-io-daemonset",
	"mimagelistpulljob-v1beta1.kb.io": "/mutate-apps-kruise-io-imagelistpulljob",
	"mimagepulljob-v1beta1.kb.io":     "/mutate-apps-kruise-io-imagepulljob",
	"mnodeimage.kb.io":                "/mutate-apps-kruise-io-nodeimage",
	"msidecarset.kb.io":               "/mutate-apps-kruise-io-sidecarset",
	"mstatefulset.kb.io":              "/mutate-apps-kruise-io-statefulset",
	"muniteddeployment.kb.io":         "/mutate-apps-kruise-io-uniteddeployment",
	"vpod.kb.io":                      "/validate-pod",
	"vpodeviction.kb.io":              "/validate-pod",
	"vnamespace.kb.io":                "/validate-namespace",
	"vservice.kb.io":                  "/validate-service",
	"vingress.kb.io":                  "/validate-ingress",
	"vcustomresourcedefinition.kb.io": "/validate-customresourcedefinition",
	"vbuiltindeployment.kb.io":        "/validate-apps-deployment",
	"vbuiltinreplicaset.kb.io":        "/validate-apps-replicaset",
	"vbuiltinstatefulset.kb.io":       "/validate-apps-statefulset",
	"vcloneset.kb.io":                 "/validate-apps-kruise-io-cloneset",
	"vstatefulset.kb.io":              "/validate-apps-kruise-io-statefulset",
	"vuniteddeployment.kb.io":         "/validate-apps-kruise-io-uniteddeployment",
	"vdaemonset.kb.io":                "/validate-apps-kruise-io-daemonset",
	"vsidecarset.kb.io":               "/validate-apps-kruise-io-sidecarset",
	"vbroadcastjob.kb.io":             "/validate-apps-kruise-io-broadcastjob",
	"vadvancedcronjob.kb.io":          "/validate-apps-kruise-io-advancedcronjob",
	"vcontainerrecreaterequest.kb.io": "/validate-apps-kruise-io-containerrecreaterequest", // not in OpenKruise (platform W15)
	"vimagepulljob-v1beta1.kb.io":     "/validate-apps-kruise-io-imagepulljob",
	"vimagelistpulljob-v1beta1.kb.io": "/validate-apps-kruise-io-imagelistpulljob",
	"vnodeimage.kb.io":                "/validate-apps-kruise-io-nodeimage",
	agentsWebhook:                     noderestriction.Path,
	"vworkloadspread.kb.io":           "/validate-apps-kruise-io-workloadspread",
	"vresourcedistribution.kb.io":     "/validate-apps-kruise-io-resourcedistribution",
	"vpersistentpodstate.kb.io":       "/validate-apps-kruise-io-persistentpodstate",
	"vpodprobemarker.kb.io":           "/validate-apps-kruise-io-podprobemarker",
	"vephemeraljobs.kb.io":            "/validate-apps-kruise-io-v1alpha1-ephemeraljob",
	"vpodunavailablebudget.kb.io":     "/validate-policy-kruise-io-podunavailablebudget",
}

// contractPath tells whether a path is of the contract.
func contractPath(path string) bool {
	for _, p := range contract {
		if p == path {
			return true
		}
	}
	return false
}
