// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
)

// ReferenceModeBroker is the mode of references to secrets that are not copied: agents ask for what is in them. They
// name the secret of the job's namespace.
const ReferenceModeBroker = "broker"

// secretSnapshot is what the plan for one job's pull secrets looks at.
type secretSnapshot struct {
	// job is the one whose secrets are claimed or released.
	job types.NamespacedName
	// wanted are the names in its spec; none for a job that is complete or being deleted.
	wanted []string
	// sources has the secrets of the job's namespace that exist, by name.
	sources map[string]*corev1.Secret
	// copies are the secrets of the agents' namespace that are not being deleted.
	copies []corev1.Secret
	// namespace is that of the agents.
	namespace string
	// types are the secret types that may be copied; "*" stands for all.
	types []string
	// images returns the images of the jobs with these keys; if it is not nil, copies are reduced to their registries.
	images func(jobs []string) []string
	// broker: sources are referred to themselves, and what was copied before is given back.
	broker bool
}

// secretDecision is what to write, in this order, and what the job may refer to.
type secretDecision struct {
	delete []*corev1.Secret // with their UID and resourceVersion as preconditions
	create []*corev1.Secret
	update []*corev1.Secret
	// references go into the NodeImages.
	references []appsv1beta1.ReferenceObject
	// missing are listed secrets that do not exist; unsupported have a type that is not copied, unreadable hold no docker
	// configuration.
	missing, unsupported, unreadable []string
}

// planSecrets decides about the copies that the agents read for one job (image-pulling 5.5, security 5.3.1).
func planSecrets(s *secretSnapshot) *secretDecision {
	d := &secretDecision{}
	if s.job.Namespace == s.namespace && !s.broker {
		for _, name := range s.wanted {
			d.references = append(d.references, appsv1beta1.ReferenceObject{Namespace: s.namespace, Name: name})
		}
		return d
	}
	slices.SortFunc(s.copies, func(a, b corev1.Secret) int { return strings.Compare(a.Name, b.Name) })
	used := map[types.UID]bool{}
	for _, name := range s.wanted {
		source := s.sources[name]
		if source == nil {
			d.missing = append(d.missing, name)
			continue
		}
		if !copyable(s.types, source.Type) {
			d.unsupported = append(d.unsupported, name)
			continue
		}
		if s.broker {
			d.references = append(d.references, appsv1beta1.ReferenceObject{Namespace: s.job.Namespace, Name: name, Mode: ReferenceModeBroker})
			continue
		}
		chosen := s.choose(source)
		if chosen != nil {
			used[chosen.UID] = true
		}
		s.claim(d, source, chosen)
	}
	for i := range s.copies {
		c := &s.copies[i]
		if c.Annotations[appsv1beta1.ImagePullJobSourceSecretKey] == "" {
			continue // the operator's own (security 5.3.1)
		}
		if !used[c.UID] && slices.Contains(referencesOf(c), s.job.String()) {
			s.release(d, c)
		}
	}
	return d
}

func copyable(types []string, t corev1.SecretType) bool {
	return slices.Contains(types, "*") || slices.Contains(types, string(t))
}

// choose returns the copy of the source to use: one that lists the job already, else the first by name, else nil.
func (s *secretSnapshot) choose(source *corev1.Secret) *corev1.Secret {
	var first *corev1.Secret
	for i := range s.copies {
		c := &s.copies[i]
		if c.Annotations[appsv1beta1.ImagePullJobSourceSecretKey] != source.Namespace+"/"+source.Name {
			continue
		}
		if slices.Contains(referencesOf(c), s.job.String()) {
			return c
		}
		if first == nil {
			first = c
		}
	}
	return first
}

// claim makes a copy equal to its source and lists the job. A copy that can't be made equal, because its type differs or
// it is immutable, is replaced.
func (s *secretSnapshot) claim(d *secretDecision, source, have *corev1.Secret) {
	var references []string
	if have != nil {
		references = referencesOf(have)
	}
	if !slices.Contains(references, s.job.String()) {
		references = append(references, s.job.String())
	}
	data, err := s.dataOf(source, references)
	if err != nil {
		d.unreadable = append(d.unreadable, source.Name)
	}
	if have == nil {
		c := s.newCopy(source, references, data)
		d.create = append(d.create, c)
		d.references = append(d.references, referTo(c))
		return
	}
	same := equality.Semantic.DeepEqual(have.Data, data)
	if have.Type != source.Type || (!same && have.Immutable != nil && *have.Immutable) {
		c := s.newCopy(source, references, data)
		d.delete, d.create = append(d.delete, have), append(d.create, c)
		d.references = append(d.references, referTo(c))
		return
	}
	if !same || len(references) != len(referencesOf(have)) {
		c := have.DeepCopy()
		c.Data = data
		setReferences(c, references)
		d.update = append(d.update, c)
	}
	d.references = append(d.references, referTo(have))
}

// newCopy returns a copy whose name follows from the source, so that two jobs at once can't make two.
func (s *secretSnapshot) newCopy(source *corev1.Secret, references []string, data map[string][]byte) *corev1.Secret {
	h := fnv.New32a()
	_, _ = h.Write([]byte(source.UID)) // never fails
	_, _ = h.Write([]byte(source.Namespace + "/" + source.Name))
	c := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.namespace,
			Name:      fmt.Sprintf("%s-%06x", strings.TrimRight(source.Name[:min(len(source.Name), 246)], "-."), h.Sum32()&0xffffff),
			Annotations: map[string]string{
				appsv1beta1.ImagePullJobSourceSecretKey: source.Namespace + "/" + source.Name,
				appsv1beta1.ImagePullJobModeKey:         appsv1beta1.ReferenceModeBatch,
			},
		},
		Type: source.Type,
		Data: data,
	}
	setReferences(c, references)
	return c
}

// dataOf returns what is copied of a source for the jobs: of a docker configuration that alone, perhaps reduced.
func (s *secretSnapshot) dataOf(source *corev1.Secret, jobs []string) (map[string][]byte, error) {
	key := credentials.KeyOf(source.Type)
	if key == "" {
		return source.Data, nil
	}
	v, ok := source.Data[key]
	if !ok {
		return nil, nil
	}
	if s.images != nil {
		var err error
		if v, err = credentials.Reduce(source.Type, v, s.images(jobs)); err != nil {
			return nil, err
		}
	}
	return map[string][]byte{key: v}, nil
}

// release takes the job off a copy and deletes the copy if that was its last job.
func (s *secretSnapshot) release(d *secretDecision, c *corev1.Secret) {
	references := slices.DeleteFunc(referencesOf(c), func(r string) bool { return r == s.job.String() })
	if len(references) == 0 {
		d.delete = append(d.delete, c)
		return
	}
	c = c.DeepCopy()
	setReferences(c, references)
	if data, err := s.dataOf(c, references); err == nil && (c.Immutable == nil || !*c.Immutable) {
		c.Data = data
	}
	d.update = append(d.update, c)
}

// planJanitor decides about copies of the present scheme that were left behind: those whose source is gone, and
// references to jobs that are over or gone (security 5.3.1, 4). Other secrets are not ours to touch.
func planJanitor(copies []corev1.Secret, sourceExists func(key string) bool, jobActive func(key string) bool) *secretDecision {
	d := &secretDecision{}
	for i := range copies {
		c := &copies[i]
		key := c.Annotations[appsv1beta1.ImagePullJobSourceSecretKey]
		if key == "" || c.Annotations[appsv1beta1.ImagePullJobModeKey] != appsv1beta1.ReferenceModeBatch {
			continue
		}
		all := referencesOf(c)
		live := slices.DeleteFunc(slices.Clone(all), func(r string) bool { return !jobActive(r) })
		switch {
		case len(live) == 0 || !sourceExists(key):
			d.delete = append(d.delete, c)
		case len(live) < len(all):
			c = c.DeepCopy()
			setReferences(c, live)
			d.update = append(d.update, c)
		}
	}
	return d
}

func referTo(c *corev1.Secret) appsv1beta1.ReferenceObject {
	return appsv1beta1.ReferenceObject{Namespace: c.Namespace, Name: c.Name, Mode: c.Annotations[appsv1beta1.ImagePullJobModeKey]}
}

func referencesOf(c *corev1.Secret) []string {
	var out []string
	for r := range strings.SplitSeq(c.Annotations[appsv1beta1.ImagePullJobReferencesKey], ",") {
		if r = strings.TrimSpace(r); r != "" {
			out = append(out, r)
		}
	}
	return out
}

func setReferences(c *corev1.Secret, references []string) {
	slices.Sort(references)
	c.Annotations[appsv1beta1.ImagePullJobReferencesKey] = strings.Join(slices.Compact(references), ",")
}
