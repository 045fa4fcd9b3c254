// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// validating reads the live configuration.
func (i *Injector) validating(t *testing.T) (*admissionv1.ValidatingWebhookConfiguration, []string) {
	t.Helper()
	v := &admissionv1.ValidatingWebhookConfiguration{}
	if err := i.Writer.Get(t.Context(), client.ObjectKey{Name: ValidatingConfiguration}, v); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range v.Webhooks {
		names = append(names, w.Name)
	}
	return v, names
}

// left adds to the configuration what OpenKruise left there, and returns what publishing says and which webhooks are there then.
func (i *Injector) left(t *testing.T, annotated bool) (names []string, err error) {
	t.Helper()
	v, _ := i.validating(t)
	for name, path := range map[string]string{"vpod.kb.io": "/validate-pod", "vpodeviction.kb.io": "/validate-pod", "theirs.example.com": "/theirs"} {
		w := v.Webhooks[0]
		w.Name, w.ClientConfig = name, i.Endpoint.clientConfig(path, []byte("ca"))
		v.Webhooks = append(v.Webhooks, w)
	}
	if annotated {
		v.Annotations = map[string]string{templateAnnotation: "[]"}
	}
	if err := i.Writer.Update(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	_, err = i.configuration(t.Context(), v, validatingViews(v.Webhooks), false, []byte("ca"))
	v, names = i.validating(t)
	if _, there := v.Annotations[templateAnnotation]; there && err == nil {
		t.Error("the annotation is still there")
	}
	return names, err
}

// TestTakeOver: webhooks that nobody here serves go before a replica is ready, whoever leads, if OpenKruise kept the list;
// else only the leader knows. What is of neither is left alone.
func TestTakeOver(t *testing.T) {
	for name, c := range map[string]struct{ annotated, leads, gone bool }{
		"another leads, the list is OpenKruise's": {annotated: true, gone: true},
		"this one leads":                    {leads: true, gone: true},
		"another leads, of another version": {},
	} {
		t.Run(name, func(t *testing.T) {
			i := installed(t, interceptor.Funcs{})
			_, want := i.validating(t)
			i.Leads = func() bool { return c.leads }
			got, err := i.left(t, c.annotated)
			if err != nil {
				t.Fatal(err)
			}
			there := strings.Contains(strings.Join(got, " "), "vpod.kb.io") || strings.Contains(strings.Join(got, " "), "vpodeviction.kb.io")
			if there == c.gone {
				t.Errorf("%v", got)
			}
			if c.gone {
				if diff := cmp.Diff(append(want, "theirs.example.com"), got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	t.Run("somebody writes at the same time", func(t *testing.T) {
		i := installed(t, interceptor.Funcs{Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return apierrors.NewConflict(schema.GroupResource{}, "", nil)
		}})
		i.Leads = func() bool { return false }
		if _, err := i.left(t, true); err == nil {
			t.Error("the replica would be ready while it is asked about what it does not serve")
		}
	})
	t.Run("external certificates", func(t *testing.T) {
		i := installed(t, interceptor.Funcs{})
		i.ReadOnly = true
		v, _ := i.validating(t)
		for n := range v.Webhooks {
			v.Webhooks[n].ClientConfig.CABundle = []byte("ca")
		}
		if err := i.Writer.Update(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if _, err := i.left(t, true); err == nil || !strings.Contains(err.Error(), "vpodeviction.kb.io") {
			t.Errorf("%v", err)
		}
	})
}

// TestEntriesByName: a path may have several webhooks. Each of ours is there, and somebody's second one calls us, too.
func TestEntriesByName(t *testing.T) {
	i := installed(t, interceptor.Funcs{})
	v, want := i.validating(t)
	v.Webhooks[0].Name, v.Webhooks[0].ClientConfig.CABundle = "second.example.com", nil
	if err := i.Writer.Update(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := i.configuration(t.Context(), v, validatingViews(v.Webhooks), false, []byte("ca")); err != nil {
		t.Fatal(err)
	}
	v, got := i.validating(t)
	have := map[string]bool{}
	for n, w := range v.Webhooks {
		have[got[n]] = true
		if string(w.ClientConfig.CABundle) != "ca" {
			t.Errorf("%s has no CA", w.Name)
		}
	}
	for _, name := range append(want, "second.example.com") {
		if !have[name] {
			t.Errorf("%s is not there: %v", name, got)
		}
	}
}
