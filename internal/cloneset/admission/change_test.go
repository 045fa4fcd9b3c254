// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/template"
)

// imagesOnly is a stand-in for the rule of inplace-update 5.2.
func imagesOnly(_ map[string]string, old, updated *corev1.PodTemplateSpec) error {
	updated = updated.DeepCopy()
	updated.ObjectMeta = old.ObjectMeta
	for i := range updated.Spec.Containers {
		if i < len(old.Spec.Containers) {
			updated.Spec.Containers[i].Image = old.Spec.Containers[i].Image
		}
	}
	if !template.Equal(old, updated) {
		return errors.New("more than images changed")
	}
	return nil
}

func TestUpdates(t *testing.T) {
	const allowed = ""
	o := Options{InPlace: imagesOnly}
	stored := func(v version, patches ...string) string {
		return set(t, v, append([]string{`{"metadata":{"resourceVersion":"1","generation":1}}`}, patches...)...)
	}
	defaulted := `{"spec":{"template":{"spec":` + defaultedPodSpec + `}}}`
	env := `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v1","env":[{"name":"A","value":"1"}]}]}}}}`
	for _, v := range []version{v1alpha1Version, v1beta1Version} {
		for _, tt := range []struct {
			name     string
			old, now []string
			cause    string
		}{
			{"S_cloneset_7 selector change", nil, []string{`{"spec":{"selector":{"matchLabels":{"app":null,"tier":"x"}},"template":{"metadata":{"labels":{"tier":"x"}}}}}`}, "spec: Forbidden: updates to cloneset spec for fields other than 'replicas', 'template',"},
			{"everything else may change", nil, []string{env, `RU{"partition":1,"maxSurge":"50%"}`, `{"spec":{"replicas":7,"minReadySeconds":5,"revisionHistoryLimit":2,"progressDeadlineSeconds":60,"volumeClaimTemplates":[{"metadata":{"name":"d"}}],"lifecycle":{"preDelete":{"markPodNotReady":true}}}}`}, allowed},
			{"name", nil, []string{`{"metadata":{"name":"other"}}`}, "metadata.name: Invalid value"},
			{"S_cloneset_7 InPlaceOnly, env", []string{policy(v, "InPlaceOnly")}, []string{policy(v, "InPlaceOnly"), env}, "spec.template.spec: Forbidden: the update strategy is InPlaceOnly"},
			{"S_cloneset_7 InPlaceOnly in the new object, env", []string{policy(v, "ReCreate")}, []string{policy(v, "InPlaceOnly"), env}, "spec.template.spec: Forbidden"},
			{"InPlaceIfPossible, env", []string{policy(v, "InPlaceOnly")}, []string{policy(v, "InPlaceIfPossible"), env}, allowed},
			{"InPlaceOnly, image and metadata", []string{policy(v, "InPlaceOnly")}, []string{policy(v, "InPlaceOnly"), `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}},"spec":{"containers":[{"name":"app","image":"app:v2"}]}}}}`}, allowed},
			{"InPlaceOnly, sent again without defaults", []string{policy(v, "InPlaceOnly"), defaulted}, []string{policy(v, "InPlaceOnly")}, allowed},
			{"stored with what is refused now", []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"many"},"progressDeadlineSeconds":0}}`}, []string{`{"spec":{"replicas":2,"scaleStrategy":{"maxUnavailable":"many"},"progressDeadlineSeconds":0}}`}, allowed},
			{"stored with an invalid template", []string{`{"spec":{"template":{"spec":{"containers":[]}}}}`}, []string{`{"metadata":{"finalizers":["x.io/y"]},"spec":{"template":{"spec":{"containers":[]}}}}`}, allowed},
			{"made worse", []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"many"}}}`}, []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"more"}}}`}, `spec.scaleStrategy.maxUnavailable: Invalid value: "more"`},
			{"names that stay in podsToDelete are not looked at", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone"]}}}`}, []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone","web-own"]}}}`}, allowed},
			{"a new name is", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone"]}}}`}, []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone","foreign"]}}}`}, `spec.scaleStrategy.podsToDelete[1]: Invalid value: "foreign"`},
			{"long names are only refused at creation", []string{`{"metadata":{"name":"` + strings.Repeat("a", 60) + `"}}`}, []string{`{"metadata":{"name":"` + strings.Repeat("a", 60) + `"},"spec":{"replicas":3}}`}, allowed},
		} {
			t.Run(tt.name+"/"+string(v), func(t *testing.T) {
				resp := validate(t, o, v, stored(v, tt.now...), stored(v, tt.old...))
				switch {
				case tt.cause != allowed:
					checkRefusal(t, resp, v, tt.cause)
				case !resp.Allowed:
					t.Errorf("%+v", resp.Result)
				}
			})
		}
	}
}

func TestDelete(t *testing.T) {
	always := `{"metadata":{"labels":{"policy.kruise.io/delete-protection":"Always"}}}`
	cascading := `{"metadata":{"labels":{"policy.kruise.io/delete-protection":"Cascading"}}}`
	deleting := `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}`
	on := Options{DeletionProtection: true}
	for _, tt := range []struct {
		name    string
		options Options
		patches []string
		want    string
	}{
		{"S_cloneset_36 Cascading with replicas", on, []string{cascading, `{"spec":{"replicas":3}}`}, "forbidden by ResourcesProtectionDeletion for policy.kruise.io/delete-protection=Cascading and replicas 3>0"},
		{"S_cloneset_36 Cascading without replicas", on, []string{cascading, `{"spec":{"replicas":0}}`}, ""},
		{"a template that can't be read", on, []string{`{"spec":{"template":"broken","volumeClaimTemplates":5}}`}, ""},
		{"a template that can't be read, protected", on, []string{cascading, `{"spec":{"replicas":3,"template":"broken"}}`}, "forbidden by ResourcesProtectionDeletion for policy.kruise.io/delete-protection=Cascading and replicas 3>0"},
		{"S_cloneset_36 Always", on, []string{always, `{"spec":{"replicas":0}}`}, "forbidden by ResourcesProtectionDeletion for policy.kruise.io/delete-protection=Always"},
		{"gate off", Options{}, []string{always}, ""},
		{"no label", on, nil, ""},
		{"deleting already", on, []string{always, deleting}, ""},
	} {
		for _, v := range []version{v1alpha1Version, v1beta1Version} {
			t.Run(tt.name+"/"+string(v), func(t *testing.T) {
				resp := ValidatingHandler(tt.options, reader(t)).Handle(context.Background(), request(admissionv1.Delete, v, "", set(t, v, tt.patches...)))
				if resp.Allowed != (tt.want == "") {
					t.Fatalf("%+v", resp.Result)
				}
				if !resp.Allowed && (resp.Result.Code != http.StatusForbidden || resp.Result.Message != tt.want) {
					t.Errorf("%d %s", resp.Result.Code, resp.Result.Message)
				}
			})
		}
	}
}

// InPlaceOnly refuses what the engine can't do, by the same rule for both versions.
func TestInPlaceOnlyAsksTheEngine(t *testing.T) {
	cpu := func(n string) string {
		return `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v1","resources":{"requests":{"cpu":"` + n + `"},"limits":{"cpu":"2"}}}]}}}}`
	}
	initImage := func(image string) string {
		return `{"spec":{"template":{"spec":{"initContainers":[{"name":"setup","image":"` + image + `"}]}}}}`
	}
	for _, tt := range []struct {
		name     string
		gates    map[string]bool
		old, now string
		allowed  bool
	}{
		{"image", nil, `{}`, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v2"}]}}}}`, true},
		{"metadata", nil, `{}`, `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}}}}}`, true},
		{"defaults that are stored differently", nil, `{"spec":{"template":{"spec":` + defaultedPodSpec + `}}}`, `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}}}}}`, true},
		{"env", nil, `{}`, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v1","env":[{"name":"A"}]}]}}}}`, false},
		{"volume", nil, `{}`, `{"spec":{"template":{"spec":{"volumes":[{"name":"v"}]}}}}`, false},
		{"init container image", nil, initImage("setup:v1"), initImage("setup:v2"), false},
		{"init container image, opted in", nil, initImage("setup:v1"), strings.Replace(initImage("setup:v2"), "{", `{"metadata":{"resourceVersion":"1","annotations":{"apps.kruise.io/inplace-update-init-container-images":"true"}},`, 1), true},
		{"cpu without the gate", nil, cpu("1"), cpu("500m"), false},
		{"cpu with the gate", map[string]bool{"InPlaceWorkloadVerticalScaling": true}, cpu("1"), cpu("500m"), true},
	} {
		g, err := gates.FromMap(tt.gates)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []version{v1alpha1Version, v1beta1Version} {
			t.Run("S_cloneset_7 "+tt.name+"/"+string(v), func(t *testing.T) {
				meta := `{"metadata":{"resourceVersion":"1"}}`
				resp := validate(t, OptionsFor(g, true), v, set(t, v, meta, policy(v, "InPlaceOnly"), tt.now), set(t, v, meta, policy(v, "InPlaceOnly"), tt.old))
				switch {
				case !tt.allowed:
					checkRefusal(t, resp, v, "spec.template.spec: Forbidden: the update strategy is InPlaceOnly, but ")
				case !resp.Allowed:
					t.Errorf("%+v", resp.Result)
				}
			})
		}
	}
}
