// SPDX-License-Identifier: Apache-2.0

package admission

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-base/featuregate"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/revision"
	"kruise.io/kruise/internal/template"
)

// Options are the gates and flags that change how CloneSets are admitted. The zero value is every gate off.
type Options struct {
	// TemplateNoDefaults leaves templates as they are sent (gate TemplateNoDefaults).
	TemplateNoDefaults bool
	// HostPorts defaults the host ports of templates with hostNetwork (gate DefaultHostNetworkHostPortsInPodTemplates).
	HostPorts bool
	// ShortHash lifts the limit on the length of names (gate CloneSetShortHash).
	ShortHash bool
	// DeletionProtection honours the label policy.kruise.io/delete-protection (gate ResourcesDeletionProtection).
	DeletionProtection bool
	// AllowPrivileged accepts privileged containers (flag --allow-privileged).
	AllowPrivileged bool
	// InPlace returns why a change of template can't be made in place, nil if it can; it decides what InPlaceOnly
	// refuses. It gets the annotations of the CloneSet. Nil refuses nothing.
	InPlace func(annotations map[string]string, old, updated *corev1.PodTemplateSpec) error
}

// OptionsFor returns the options that a manager with these gates and that flag uses.
func OptionsFor(g featuregate.FeatureGate, allowPrivileged bool) Options {
	return Options{
		TemplateNoDefaults: g.Enabled(gates.TemplateNoDefaults),
		HostPorts:          g.Enabled(gates.DefaultHostNetworkHostPortsInPodTemplates),
		ShortHash:          g.Enabled(gates.CloneSetShortHash),
		DeletionProtection: g.Enabled(gates.ResourcesDeletionProtection),
		AllowPrivileged:    allowPrivileged,
		InPlace: inPlaceRule(inplace.Options{
			EnvFromMetadata: g.Enabled(gates.InPlaceUpdateEnvFromMetadata),
			VerticalScaling: g.Enabled(gates.InPlaceWorkloadVerticalScaling),
			Default:         func(t *corev1.PodTemplateSpec) { template.SetDefaults(t, true) },
		}),
	}
}

// inPlaceRule asks the engine that will have to make the change, so that InPlaceOnly refuses exactly what could not be
// made (inplace-update, weakness 23).
func inPlaceRule(o inplace.Options) func(annotations map[string]string, old, updated *corev1.PodTemplateSpec) error {
	return func(annotations map[string]string, old, updated *corev1.PodTemplateSpec) error {
		o := o
		o.InitContainerImages = annotations[inplace.InitContainerImagesKey] == "true"
		before, err := asRevision("old", old)
		if err != nil {
			return err
		}
		after, err := asRevision("new", updated)
		if err != nil {
			return err
		}
		_, err = inplace.Decide(before, after, o)
		return err
	}
}

func asRevision(name string, t *corev1.PodTemplateSpec) (*appsv1.ControllerRevision, error) {
	data, err := revision.Data(t)
	if err != nil {
		return nil, err
	}
	return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: runtime.RawExtension{Raw: data}}, nil
}
