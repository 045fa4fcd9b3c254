// SPDX-License-Identifier: Apache-2.0

package template

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestValidate(t *testing.T) {
	const valid = `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"app:v1"}]}}`
	path, claimsPath := field.NewPath("spec", "template"), field.NewPath("spec", "volumeClaimTemplates")
	selector := labels.SelectorFromSet(labels.Set{"app": "web"})
	claim := func(name string) corev1.PersistentVolumeClaim {
		return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	for _, tt := range []struct {
		name, template string
		claims         []corev1.PersistentVolumeClaim
		privileged     bool
		want           []string // prefixes of the errors
	}{
		{name: "valid, not defaulted", template: valid},
		{name: "valid, defaulted", template: minimalDefaulted},
		{name: "mount of a claim", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"a","volumeMounts":[{"name":"data","mountPath":"/d"}]}]}}`, claims: []corev1.PersistentVolumeClaim{claim("data")}},
		{name: "mount of nothing", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"a","volumeMounts":[{"name":"data","mountPath":"/d"}]}]}}`,
			want: []string{"spec.template.spec.containers[0].volumeMounts[0].name: Not found"}},
		{name: "duplicate claims", template: valid, claims: []corev1.PersistentVolumeClaim{claim("a"), claim("a")}, want: []string{"spec.volumeClaimTemplates[1].metadata.name: Duplicate value"}},
		{name: "claim named like a volume", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"volumes":[{"name":"data"}],"containers":[{"name":"app","image":"a"}]}}`, claims: []corev1.PersistentVolumeClaim{claim("data")},
			want: []string{"spec.volumeClaimTemplates[0].metadata.name: Duplicate value"}},
		{name: "no containers", template: `{"metadata":{"labels":{"app":"web"}},"spec":{}}`, want: []string{"spec.template.spec.containers: Required value"}},
		{name: "no image", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app"}]}}`, want: []string{"spec.template.spec.containers[0].image: Required value"}},
		{name: "restart policy", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"restartPolicy":"OnFailure","containers":[{"name":"app","image":"a"}]}}`, want: []string{`spec.template.spec.restartPolicy: Unsupported value: "OnFailure"`}},
		{name: "deadline", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"activeDeadlineSeconds":5,"containers":[{"name":"app","image":"a"}]}}`, want: []string{"spec.template.spec.activeDeadlineSeconds: Forbidden"}},
		{name: "labels", template: `{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"name":"app","image":"a"}]}}`, want: []string{"spec.template.metadata.labels: Invalid value"}},
		{name: "privileged", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"a","securityContext":{"privileged":true}}]}}`, want: []string{"spec.template.spec.containers[0].securityContext.privileged: Forbidden"}},
		{name: "privileged allowed", privileged: true, template: `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"a","securityContext":{"privileged":true}}]}}`},
		{name: "ephemeral containers", template: `{"metadata":{"labels":{"app":"web"}},"spec":{"ephemeralContainers":[{"name":"e","image":"a"}],"containers":[{"name":"app","image":"a"}]}}`,
			want: []string{"spec.template.spec.ephemeralContainers: Forbidden"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			errs := Validator{AllowPrivileged: tt.privileged}.ValidateForWorkload(typed(t, tt.template), nil, selector, tt.claims, path, claimsPath)
			if len(errs) != len(tt.want) {
				t.Fatalf("got %v, want %v", errs, tt.want)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(errs[i].Error(), want) {
					t.Errorf("got %v, want %s", errs[i], want)
				}
			}
		})
	}
}
