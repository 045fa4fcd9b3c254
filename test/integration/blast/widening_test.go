// SPDX-License-Identifier: Apache-2.0

package blast_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/internal/podadmission"
	"kruise.io/kruise/internal/podadmission/concern"
	"kruise.io/kruise/test/await"
)

const stamped = "blast.example/stamped"

// stamping is a feature as those to come: objects select pods, and pods that are selected when they are created get
// something. CloneSets are in the part of the objects.
func stamping() manager.Feature {
	source := webhooks.Source{
		Kind: appsv1beta1.GroupVersion.WithKind("CloneSet"),
		Pods: func(obj client.Object) concern.Pods {
			t := concern.Term{Namespaces: []string{obj.GetNamespace()}}
			switch o := obj.(type) {
			case *appsv1beta1.CloneSet:
				t.Selector = o.Spec.Selector
			case *appsv1alpha1.CloneSet:
				t.Selector = o.Spec.Selector
			}
			return concern.Pods{concern.Create: {t}}
		},
	}
	allow := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") })
	return manager.Feature{
		Name: "stamping", Sources: []webhooks.Source{source},
		Webhooks: func(d *manager.Deps) map[string]http.Handler {
			return map[string]http.Handler{"/validate-apps-kruise-io-cloneset": manager.Admission(d.Widening(allow, source))}
		},
		PodMutator: func(*manager.Deps) podadmission.Mutator {
			return podadmission.Mutator{Name: "stamp", Mutate: func(_ context.Context, _ *admission.Request, p *corev1.Pod) (bool, error) {
				metav1.SetMetaDataAnnotation(&p.ObjectMeta, stamped, "yes")
				return true, nil
			}}
		},
	}
}

func withStamping(o *manager.Options) { o.ExtraFeatures = []manager.Feature{stamping()} }

// TestNoPodIsMissed: objects that select pods and those pods are created at the same time, on two replicas of which one
// leads, and conditions are narrowed meanwhile as soon as they may be. Every pod whose creation began after the object's
// was acknowledged is seen by the feature.
func TestNoPodIsMissed(t *testing.T) {
	fresh(t)
	b := newBalancer(t)
	replica(t, b, withStamping)
	replica(t, b, withStamping)
	ns := namespace(t, "race")
	static := condition(t)

	const objects, podsEach = 4, 8
	var wg sync.WaitGroup
	for i := range objects {
		wg.Go(func() {
			// Two of each name after one another: what the first one needed may be narrowed away while the second comes.
			for round := range 2 {
				cs := cloneSet(ns, fmt.Sprintf("cs-%d", i))
				if err := client.IgnoreAlreadyExists(kube.Create(t.Context(), cs)); err != nil {
					t.Error(err)
					return
				}
				for n := range podsEach {
					p := pod(ns, fmt.Sprintf("cs-%d-%d-%d", i, round, n))
					p.Labels = cs.Spec.Selector.MatchLabels
					if err := kube.Create(t.Context(), p); err != nil {
						t.Error(err)
					} else if p.Annotations[stamped] != "yes" {
						t.Errorf("pod %s was missed", p.Name)
					}
				}
				if err := kube.Delete(t.Context(), cs); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	unrelated := pod(ns, "unrelated")
	if err := kube.Create(t.Context(), unrelated); err != nil || unrelated.Annotations[stamped] != "" {
		t.Errorf("%v %v", err, unrelated.Annotations)
	}
	await.That(t, "the condition is narrow again", func() error {
		look(t)
		if c := condition(t); c != static {
			return fmt.Errorf("%s", c)
		}
		if a := configuration(t).Annotations; len(a) > 0 {
			return fmt.Errorf("%v", a)
		}
		return nil
	})
	p := pod(ns, "late")
	p.Labels = map[string]string{"app": "cs-0"}
	if err := kube.Create(t.Context(), p); err != nil || p.Annotations[stamped] != "" {
		t.Errorf("a pod that nothing selects any more: %v %v", err, p.Annotations)
	}
	noEvaluationErrors(t)
}

// TestForeignEditsStay: selectors, policies and match conditions of others survive widening, narrowing and repair; ours
// is put back when somebody takes it away or makes it too narrow (platform W3).
func TestForeignEditsStay(t *testing.T) {
	fresh(t)
	b := newBalancer(t)
	replica(t, b, withStamping)
	replica(t, b, withStamping)
	ns := namespace(t, "foreign")

	edit := func(f func(*admissionv1.MutatingWebhook)) {
		t.Helper()
		await.That(t, "the edit", func() error {
			c := configuration(t)
			f(entry(c))
			return kube.Update(t.Context(), c)
		})
	}
	theirs := admissionv1.MatchCondition{Name: "theirs", Expression: `!has(object.metadata.labels) || !("skip" in object.metadata.labels)`}
	edit(func(w *admissionv1.MutatingWebhook) {
		w.TimeoutSeconds, w.ReinvocationPolicy = new(int32(7)), new(admissionv1.IfNeededReinvocationPolicy)
		w.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "never", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		w.NamespaceSelector.MatchExpressions = append(w.NamespaceSelector.MatchExpressions, metav1.LabelSelectorRequirement{Key: "never", Operator: metav1.LabelSelectorOpDoesNotExist})
		w.MatchConditions = append([]admissionv1.MatchCondition{theirs}, w.MatchConditions...)
	})
	check := func(when string) {
		t.Helper()
		w := entry(configuration(t))
		if *w.TimeoutSeconds != 7 || *w.ReinvocationPolicy != admissionv1.IfNeededReinvocationPolicy || len(w.ObjectSelector.MatchExpressions) != 1 ||
			len(w.NamespaceSelector.MatchExpressions) != 2 || len(w.MatchConditions) != 2 || !contains(w.MatchConditions, theirs) {
			t.Errorf("%s: %+v", when, w)
		}
	}
	cs := cloneSet(ns, "cs")
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	check("widened")
	if !strings.Contains(condition(t), `"foreign"`) {
		t.Errorf("not widened: %s", condition(t))
	}
	for name, ours := range map[string]string{"too narrow": "false", "taken away": ""} {
		edit(func(w *admissionv1.MutatingWebhook) {
			w.MatchConditions = []admissionv1.MatchCondition{theirs}
			if ours != "" {
				w.MatchConditions = append(w.MatchConditions, admissionv1.MatchCondition{Name: webhooks.MatchConditionName, Expression: ours})
			}
		})
		await.That(t, name+": the condition is as it should be", func() error {
			if c := condition(t); !strings.Contains(c, `"foreign"`) || !strings.Contains(c, "KruisePodReady") {
				return fmt.Errorf("%q", c)
			}
			return nil
		})
		check(name)
	}
	if err := kube.Delete(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the condition is narrow again", func() error {
		look(t)
		if c := condition(t); strings.Contains(c, `"foreign"`) {
			return fmt.Errorf("%s", c)
		}
		return nil
	})
	check("narrowed")
}

func contains(conditions []admissionv1.MatchCondition, c admissionv1.MatchCondition) bool {
	for _, x := range conditions {
		if x == c {
			return true
		}
	}
	return false
}

// TestVersionsSideBySide_S_platform_40: replicas of two versions, of which one knows a feature more, leave the
// configurations alone once they are in order, whichever leads, however often they look.
func TestVersionsSideBySide_S_platform_40(t *testing.T) {
	older := func(*manager.Options) {}
	for name, order := range map[string][2]func(*manager.Options){"older leads": {older, withStamping}, "newer leads": {withStamping, older}} {
		t.Run(name, func(t *testing.T) {
			fresh(t)
			b := newBalancer(t)
			first := replica(t, b, order[0])
			await.That(t, "the first leads", func() error {
				if !first.Leads() {
					return fmt.Errorf("it does not")
				}
				return nil
			})
			replica(t, b, order[1])
			ns := namespace(t, "versions")
			cs := cloneSet(ns, strings.Fields(name)[0])
			if err := kube.Create(t.Context(), cs); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = kube.Delete(context.Background(), cs) })

			// What was admitted by either is settled when nothing changes for longer than the delay of narrowing.
			versions := func() string {
				var v admissionv1.ValidatingWebhookConfiguration
				if err := kube.Get(t.Context(), client.ObjectKey{Name: webhooks.ValidatingConfiguration}, &v); err != nil {
					t.Fatal(err)
				}
				return configuration(t).ResourceVersion + " " + v.ResourceVersion
			}
			last, since := versions(), time.Now()
			await.That(t, "the configurations are settled", func() error {
				look(t)
				if now := versions(); now != last {
					last, since = now, time.Now()
				}
				if time.Since(since) < 3*time.Second {
					return fmt.Errorf("changed a moment ago: %s", last)
				}
				return nil
			})
			for range 15 {
				look(t)
				time.Sleep(100 * time.Millisecond) // events that come together are looked at together
			}
			if now := versions(); now != last {
				t.Errorf("the configurations went on changing: %s, %s", last, now)
			}
		})
	}
}
