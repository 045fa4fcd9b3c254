// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func source(name, value string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns1", Name: name, UID: types.UID("uid-" + name),
			Labels: map[string]string{"l": "v"}, Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "all"}},
		Immutable: ptr.To(true),
		Type:      corev1.SecretTypeDockerConfigJson,
		Data:      map[string][]byte{corev1.DockerConfigJsonKey: []byte(value), "other": nil},
	}
}

func secretsOf(job string, wanted []string, sources []*corev1.Secret, copies ...corev1.Secret) *secretSnapshot {
	s := &secretSnapshot{job: types.NamespacedName{Namespace: "ns1", Name: job}, wanted: wanted,
		sources: map[string]*corev1.Secret{}, copies: copies, namespace: "config", types: DefaultSecretTypes()}
	for _, source := range sources {
		s.sources[source.Name] = source
	}
	return s
}

// stored returns the copies after a decision.
func stored(copies []corev1.Secret, d *secretDecision) []corev1.Secret {
	gone := map[types.UID]bool{}
	for _, c := range d.delete {
		gone[c.UID] = true
	}
	copies = slices.DeleteFunc(slices.Clone(copies), func(c corev1.Secret) bool { return gone[c.UID] })
	for _, c := range d.create {
		c.UID = types.UID(c.Name)
		copies = append(copies, *c)
	}
	for _, c := range d.update {
		copies[slices.IndexFunc(copies, func(o corev1.Secret) bool { return o.UID == c.UID })] = *c
	}
	return copies
}

func TestSecrets(t *testing.T) {
	s1 := source("s1", "x")
	wanted := []string{"s1"}
	first := planSecrets(secretsOf("job", wanted, []*corev1.Secret{s1}))
	copies := stored(nil, first)
	t.Run("S_image_pulling_24", func(t *testing.T) {
		c := first.create[0]
		if !regexp.MustCompile(`^s1-[0-9a-f]{6}$`).MatchString(c.Name) || c.Namespace != "config" {
			t.Errorf("copy %s/%s", c.Namespace, c.Name)
		}
		equal(t, "annotations", c.Annotations, map[string]string{
			"imagepulljobs.kruise.io/source-key": "ns1/s1", "imagepulljobs.kruise.io/references": "ns1/job", "imagepulljobs.kruise.io/mode": "batch"})
		equal(t, "data", c.Data, map[string][]byte{corev1.DockerConfigJsonKey: []byte("x")})
		if c.Labels != nil || c.Immutable != nil {
			t.Error("copies more than the credentials")
		}
		equal(t, "reference", first.references, []appsv1beta1.ReferenceObject{{Namespace: "config", Name: c.Name, Mode: "batch"}})
		second := planSecrets(secretsOf("job2", wanted, []*corev1.Secret{s1}, copies...))
		equal(t, "second copies", len(second.create), 0)
		equal(t, "references", second.update[0].Annotations[appsv1beta1.ImagePullJobReferencesKey], "ns1/job,ns1/job2")
		equal(t, "same reference", second.references, first.references)
	})
	t.Run("S_image_pulling_25", func(t *testing.T) {
		shared := stored(slices.Clone(copies), planSecrets(secretsOf("job2", wanted, []*corev1.Secret{s1}, copies...)))
		d := planSecrets(secretsOf("job", nil, nil, shared...))
		equal(t, "references", d.update[0].Annotations[appsv1beta1.ImagePullJobReferencesKey], "ns1/job2")
		d = planSecrets(secretsOf("job2", nil, nil, stored(shared, d)...))
		equal(t, "deleted", len(d.delete), 1)
	})
	t.Run("S_image_pulling_26", func(t *testing.T) {
		d := planSecrets(secretsOf("job", wanted, []*corev1.Secret{source("s1", "y")}, copies...))
		equal(t, "data", string(d.update[0].Data[corev1.DockerConfigJsonKey]), "y")
	})
	t.Run("a copy of a secret with a long name", func(t *testing.T) {
		long := source(strings.Repeat("a", 245)+".b.cdefg", "x")
		c := planSecrets(secretsOf("job", []string{long.Name}, []*corev1.Secret{long})).create[0]
		if errs := validation.IsDNS1123Subdomain(c.Name); len(errs) > 0 {
			t.Errorf("%s: %v", c.Name, errs)
		}
	})
	t.Run("S_image_pulling_27", func(t *testing.T) {
		d := planSecrets(secretsOf("job", wanted, nil))
		equal(t, "missing", d.missing, wanted)
		equal(t, "references", len(d.references), 0)
	})
	t.Run("S_image_pulling_28", func(t *testing.T) {
		s := secretsOf("job", wanted, nil)
		s.job.Namespace = "config"
		d := planSecrets(s)
		equal(t, "references", d.references, []appsv1beta1.ReferenceObject{{Namespace: "config", Name: "s1"}})
		equal(t, "writes", len(d.create)+len(d.update)+len(d.delete), 0)
	})
	t.Run("S_security_20", func(t *testing.T) {
		opaque := source("s1", "x")
		opaque.Type = corev1.SecretTypeOpaque
		d := planSecrets(secretsOf("job", wanted, []*corev1.Secret{opaque}))
		equal(t, "unsupported", d.unsupported, wanted)
		equal(t, "copies", len(d.create), 0)
	})
	t.Run("S_security_21/reduced", func(t *testing.T) {
		three := source("s1", `{"auths":{"a.example":{"auth":"eDp4"},"b.example":{"auth":"eTp5"},"c.example":{}}}`)
		images := map[string]string{"ns1/job": "a.example/app", "ns1/job2": "b.example/app"}
		plan := func(job string, wanted []string, copies ...corev1.Secret) *secretDecision {
			s := secretsOf(job, wanted, []*corev1.Secret{three}, copies...)
			s.images = func(jobs []string) (out []string) {
				for _, j := range jobs {
					out = append(out, images[j])
				}
				return out
			}
			return planSecrets(s)
		}
		content := func(copies []corev1.Secret) string { return string(copies[0].Data[corev1.DockerConfigJsonKey]) }
		copies := stored(nil, plan("job", wanted))
		equal(t, "for one job", content(copies), `{"auths":{"a.example":{"auth":"eDp4"}}}`)
		equal(t, "type", copies[0].Type, three.Type)
		copies = stored(copies, plan("job2", wanted, copies...))
		equal(t, "for two", content(copies), `{"auths":{"a.example":{"auth":"eDp4"},"b.example":{"auth":"eTp5"}}}`)
		again := plan("job", wanted, copies...)
		equal(t, "writes when nothing changed", len(again.create)+len(again.update)+len(again.delete), 0)
		copies = stored(copies, plan("job", nil, copies...))
		equal(t, "after the first has ended", content(copies), `{"auths":{"b.example":{"auth":"eTp5"}}}`)
		images["ns1/job2"] = "c.example/app"
		copies = stored(copies, plan("job2", wanted, copies...))
		equal(t, "after an edit", content(copies), `{"auths":{"c.example":{}}}`)
		three.Data[corev1.DockerConfigJsonKey] = []byte("nonsense")
		d := plan("job2", wanted, copies...)
		equal(t, "unreadable", d.unreadable, wanted)
		equal(t, "content", len(stored(copies, d)[0].Data), 0)
	})
	t.Run("broker", func(t *testing.T) {
		s := secretsOf("job", []string{"s1", "gone"}, []*corev1.Secret{s1})
		s.broker = true
		d := planSecrets(s)
		equal(t, "references", d.references, []appsv1beta1.ReferenceObject{{Namespace: "ns1", Name: "s1", Mode: "broker"}})
		equal(t, "missing", d.missing, []string{"gone"})
		equal(t, "writes", len(d.create)+len(d.update)+len(d.delete), 0)
	})
	t.Run("an immutable copy is replaced", func(t *testing.T) {
		frozen := *copies[0].DeepCopy()
		frozen.Immutable = ptr.To(true)
		d := planSecrets(secretsOf("job2", wanted, []*corev1.Secret{source("s1", "y")}, frozen))
		equal(t, "deleted, created", []int{len(d.delete), len(d.create), len(d.update)}, []int{1, 1, 0})
		equal(t, "references", d.create[0].Annotations[appsv1beta1.ImagePullJobReferencesKey], "ns1/job,ns1/job2")
	})
	t.Run("an operator's own secret is left alone, whatever its annotations say", func(t *testing.T) {
		own := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "config", Name: "own", UID: "own",
			Annotations: map[string]string{appsv1beta1.ImagePullJobReferencesKey: "ns1/job"}}}
		for _, references := range []string{"ns1/job", "ns1/job,ns1/job2"} {
			own.Annotations[appsv1beta1.ImagePullJobReferencesKey] = references
			d := planSecrets(secretsOf("job", nil, nil, own))
			equal(t, "writes", len(d.create)+len(d.update)+len(d.delete), 0)
		}
	})
	t.Run("janitor", func(t *testing.T) {
		operators := *source("op", "x")
		no := func(string) bool { return false }
		yes := func(string) bool { return true }
		equal(t, "jobs gone", len(planJanitor(append(copies, operators), yes, no).delete), 1)
		equal(t, "source gone", len(planJanitor(append(copies, operators), no, yes).delete), 1)
		d := planJanitor(append(copies, operators), yes, yes)
		equal(t, "in use", len(d.delete)+len(d.update), 0)
	})
}

// Whatever jobs claim and release in whatever order, there is one copy per source in use and none otherwise.
func TestSecretLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var copies []corev1.Secret
		using := map[string]map[string]bool{"s1": {}, "s2": {}}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			job := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "job")
			wanted := rapid.SampledFrom([][]string{nil, {"s1"}, {"s2"}, {"s1", "s2"}}).Draw(t, "wanted")
			d := planSecrets(secretsOf(job, wanted, []*corev1.Secret{source("s1", "x"), source("s2", "x")}, copies...))
			copies = stored(copies, d)
			for name, jobs := range using {
				delete(jobs, job)
				if slices.Contains(wanted, name) {
					jobs[job] = true
				}
			}
			want := 0
			for name, jobs := range using {
				if len(jobs) == 0 {
					continue
				}
				want++
				i := slices.IndexFunc(copies, func(c corev1.Secret) bool {
					return c.Annotations[appsv1beta1.ImagePullJobSourceSecretKey] == "ns1/"+name
				})
				if i < 0 || len(referencesOf(&copies[i])) != len(jobs) {
					t.Fatalf("%s is used by %v, copies %v", name, jobs, copies)
				}
			}
			if len(copies) != want {
				t.Fatalf("%d copies, want %d", len(copies), want)
			}
		}
	})
}
