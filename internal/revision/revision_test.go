// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"

	"kruise.io/kruise/internal/template"
)

var gvk = schema.GroupVersionKind{Group: "apps.kruise.io", Version: "v1beta1", Kind: "CloneSet"}

func podTemplate(image string) *corev1.PodTemplateSpec {
	t := &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
	template.SetDefaults(t, false)
	return t
}

func owner(t *corev1.PodTemplateSpec) Owner {
	return Owner{
		Object:       &metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u1", Annotations: map[string]string{"note": "1"}},
		GVK:          gvk,
		Template:     t,
		ClaimHashKey: ClaimHashAnnotation,
	}
}

func claim(name, storage string) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"l": "v"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(storage)}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
}

// stored returns a plan's update revision as the apiserver would return it.
func stored(t testing.TB, o Owner, candidates ...*appsv1.ControllerRevision) *appsv1.ControllerRevision {
	t.Helper()
	p, err := NewPlan(o, candidates)
	if err != nil {
		t.Fatal(err)
	}
	return p.Update.DeepCopy()
}

func TestData(t *testing.T) {
	got, err := Data(&corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"b": "1", "a": "<2>"}},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "app", Image: "app:v1"}},
			TerminationGracePeriodSeconds: new(int64(9007199254740993)),
			Volumes: []corev1.Volume{{Name: "e", VolumeSource: corev1.VolumeSource{
				Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"a":"\u003c2\u003e","b":"1"}},` +
		`"spec":{"containers":[{"image":"app:v1","name":"app","resources":{}}],"terminationGracePeriodSeconds":9007199254740993,` +
		`"volumes":[{"ephemeral":{"volumeClaimTemplate":{"metadata":{"creationTimestamp":null},"spec":{"resources":{}}}},"name":"e"}]}}}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestHashAndName(t *testing.T) {
	// The vector of the wire contract.
	data := `{"spec":{"$patch":"replace","containers":[{"image":"centos:6.7","name":"sidecar1","resources":{},"shareVolumePolicy":{},"upgradeStrategy":{}}],"imagePullSecrets":null,"initContainers":null,"patchPodMetadata":null,"volumes":null}}`
	if got := Hash([]byte(data), 0); got != "5f449f68f6" {
		t.Errorf("hash %s", got)
	}
	if Hash([]byte(data), 1) == Hash([]byte(data), 0) {
		t.Error("the collision count must change the hash")
	}
	if got := Name(strings.Repeat("a", 250), "x"); got != strings.Repeat("a", 223)+"-x" {
		t.Error(got)
	}
}

func TestClaimHash(t *testing.T) {
	if got, err := ClaimHash(nil); err != nil || got != "" {
		t.Errorf("no claims: %q, %v", got, err)
	}
	a, b := claim("a", "1Gi"), claim("b", "2Gi")
	got, err := ClaimHash([]corev1.PersistentVolumeClaim{b, a})
	if err != nil {
		t.Fatal(err)
	}
	input := `[{"metadata":{"name":"a","creationTimestamp":null},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}},"status":{}},` +
		`{"metadata":{"name":"b","creationTimestamp":null},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"2Gi"}}},"status":{}}]`
	sum := fnv.New32a()
	_, _ = fmt.Fprintf(sum, "([]uint8)%v", []byte(input))
	if want := fmt.Sprint(sum.Sum32()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if other, _ := ClaimHash([]corev1.PersistentVolumeClaim{a, claim("b", "3Gi")}); other == got {
		t.Error("another size must change the hash")
	}
}

func TestPlanCreates(t *testing.T) {
	o := owner(podTemplate("app:v1"))
	o.Claims = []corev1.PersistentVolumeClaim{claim("data", "1Gi")}
	p, err := NewPlan(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Write != Create || p.Current != p.Update || p.Update.Revision != 1 || p.CollisionCount != 0 {
		t.Errorf("plan %+v", p)
	}
	hash := Hash(p.Update.Data.Raw, 0)
	if p.Update.Name != "web-"+hash || p.Update.Namespace != "ns" {
		t.Errorf("name %s", p.Update.Name)
	}
	if diff := cmp.Diff(map[string]string{"app": "web", HashLabel: hash}, p.Update.Labels); diff != "" {
		t.Error(diff)
	}
	wantHash, _ := ClaimHash(o.Claims)
	if p.Update.Annotations["note"] != "1" || p.Update.Annotations[ClaimHashAnnotation] != wantHash {
		t.Errorf("annotations %v", p.Update.Annotations)
	}
	if claims, ok := Claims(p.Update); !ok || len(claims) != 1 || claims[0].Name != "data" || claims[0].Labels["l"] != "v" || claims[0].Status.Phase != "" {
		t.Errorf("claims %v", claims)
	}
	ref := metav1.GetControllerOf(p.Update)
	if ref == nil || ref.APIVersion != "apps.kruise.io/v1beta1" || ref.Kind != "CloneSet" || ref.UID != "u1" {
		t.Errorf("owner %v", ref)
	}
	if _, changed := o.Object.GetAnnotations()[ClaimHashAnnotation]; changed {
		t.Error("the owner's annotations were changed")
	}
}

func TestPlanFinds(t *testing.T) {
	v1, v2, v3 := podTemplate("app:v1"), podTemplate("app:v2"), podTemplate("app:v3")
	r1 := stored(t, owner(v1))
	r2 := stored(t, owner(v2), r1)
	byOther := stored(t, owner(v3))
	byOther.OwnerReferences[0].UID = "other"
	orphan := stored(t, owner(v3), r1, r2)
	orphan.OwnerReferences = nil
	malformed := r2.DeepCopy()
	malformed.Name, malformed.Revision, malformed.Data.Raw = "web-bad", 9, []byte(`{"spec":[`)
	legacyOwner := r2.DeepCopy()
	legacyOwner.OwnerReferences[0].APIVersion = "apps.kruise.io/v1alpha1"
	clash := r1.DeepCopy()
	clash.Data = *r2.Data.DeepCopy()

	for _, tt := range []struct {
		name            string
		template        *corev1.PodTemplateSpec
		current         string
		candidates      []*appsv1.ControllerRevision
		write           Write
		update, wantCur string
		number          int64
		collisions      int32
	}{
		{"S_cloneset_8 newest holds the template", v2, r1.Name, []*appsv1.ControllerRevision{r2, r1}, None, r2.Name, r1.Name, 2, 0},
		{"S_cloneset_8 owner named by the old version", v2, "", []*appsv1.ControllerRevision{r1, legacyOwner}, None, r2.Name, r2.Name, 2, 0},
		{"S_cloneset_32 rollback renumbers", v1, r2.Name, []*appsv1.ControllerRevision{r1, r2}, Renumber, r1.Name, r2.Name, 3, 0},
		{"current is gone", v2, "web-gone", []*appsv1.ControllerRevision{r1, r2}, None, r2.Name, r2.Name, 2, 0},
		{"revisions of others do not count", v3, "", []*appsv1.ControllerRevision{r1, byOther}, Create, byOther.Name, byOther.Name, 2, 0},
		{"an orphan is adopted", v3, r1.Name, []*appsv1.ControllerRevision{r1, r2, orphan}, Adopt, orphan.Name, r1.Name, 3, 0},
		{"malformed data holds nothing", v2, "", []*appsv1.ControllerRevision{r1, r2, malformed}, Renumber, r2.Name, r2.Name, 10, 0},
		{"known name clash", v1, "", []*appsv1.ControllerRevision{clash}, Create, Name("web", Hash(r1.Data.Raw, 1)), Name("web", Hash(r1.Data.Raw, 1)), 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := owner(tt.template)
			o.Current = tt.current
			before, _ := json.Marshal(tt.candidates)
			p, err := NewPlan(o, tt.candidates)
			if err != nil {
				t.Fatal(err)
			}
			if p.Write != tt.write || p.Update.Name != tt.update || p.Current.Name != tt.wantCur || p.Update.Revision != tt.number || p.CollisionCount != tt.collisions {
				t.Errorf("got %s update %s (%d) current %s collisions %d, want %+v", p.Write, p.Update.Name, p.Update.Revision, p.Current.Name, p.CollisionCount, tt)
			}
			if ref := metav1.GetControllerOf(p.Update); ref == nil || ref.UID != "u1" {
				t.Error("the update revision has no controller")
			}
			if after, _ := json.Marshal(tt.candidates); string(after) != string(before) {
				t.Error("candidates were changed")
			}
		})
	}
}

func TestRollbackRefreshesClaims(t *testing.T) {
	o := owner(podTemplate("app:v1"))
	o.Claims = []corev1.PersistentVolumeClaim{claim("data", "1Gi")}
	r1 := stored(t, o)
	r2 := stored(t, owner(podTemplate("app:v2")), r1)
	o.Claims = []corev1.PersistentVolumeClaim{claim("data", "2Gi")}

	p, err := NewPlan(o, []*appsv1.ControllerRevision{r1})
	if err != nil {
		t.Fatal(err)
	}
	if p.Write != None || p.Update.Annotations[ClaimHashAnnotation] != r1.Annotations[ClaimHashAnnotation] {
		t.Error("S_cloneset_29 a change of claims only must not touch the newest revision")
	}
	p, err = NewPlan(o, []*appsv1.ControllerRevision{r1, r2})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := ClaimHash(o.Claims)
	if p.Write != Renumber || p.Update.Annotations[ClaimHashAnnotation] != want {
		t.Error("a rollback must refresh the hash of the claims")
	}
	if claims, _ := Claims(p.Update); len(claims) != 1 || claims[0].Spec.Resources.Requests.Storage().String() != "2Gi" {
		t.Errorf("claims %v", claims)
	}
}

// openKruiseData is the data of a revision as OpenKruise writes it: with the null timestamps of older libraries.
const openKruiseData = `{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"web"}},"spec":{"containers":[{"image":"app:v1","imagePullPolicy":"IfNotPresent","name":"app","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}`

func TestAdoptsOpenKruiseData(t *testing.T) {
	ours, err := Data(podTemplate("app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(openKruiseData, string(ours)); diff != "" {
		t.Fatalf("S_cloneset_9 the data must equal OpenKruise's, so that names do: %s", diff)
	}
	for name, data := range map[string]string{
		"S_cloneset_9 as written":           openKruiseData,
		"S_cloneset_9 without timestamps":   strings.ReplaceAll(openKruiseData, `"creationTimestamp":null,`, ""),
		"S_cloneset_9 without the $patch":   strings.ReplaceAll(openKruiseData, `"$patch":"replace",`, ""),
		"S_cloneset_9 a default missing":    strings.ReplaceAll(openKruiseData, `"schedulerName":"default-scheduler",`, ""),
		"S_cloneset_9 an unknown field":     strings.ReplaceAll(openKruiseData, `"dnsPolicy"`, `"future":{"x":1},"dnsPolicy"`),
		"S_cloneset_9 another key order":    `{"spec":{"template":` + strings.TrimPrefix(openKruiseData, `{"spec":{"template":`),
		"S_cloneset_9 pretty-printed JSON ": strings.ReplaceAll(openKruiseData, `,`, ` , `),
	} {
		t.Run(name, func(t *testing.T) {
			o := owner(podTemplate("app:v1"))
			o.Current = "web-abc"
			r := stored(t, o)
			r.Name, r.Data = "web-abc", runtime.RawExtension{Raw: []byte(data)}
			p, err := NewPlan(o, []*appsv1.ControllerRevision{r})
			if err != nil {
				t.Fatal(err)
			}
			if p.Write != None || p.Update != r || p.Current != r {
				t.Errorf("plan %s, update %s", p.Write, p.Update.Name)
			}
		})
	}
}

func TestTemplateOfMalformedData(t *testing.T) {
	for _, data := range []string{``, `null`, `[]`, `{}`, `{"spec":{}}`, `{"spec":{"template":5}}`, `{"spec":{"template":{"spec":{"containers":{}}}}}`} {
		r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-1"}, Data: runtime.RawExtension{Raw: []byte(data)}}
		if _, err := Template(r); err == nil || !strings.Contains(err.Error(), "ns/web-1") {
			t.Errorf("%s: %v", data, err)
		}
	}
	if _, ok := Claims(&appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{ClaimsAnnotation: "{"}}}); ok {
		t.Error("malformed claims accepted")
	}
}

func TestHugeAnnotations(t *testing.T) {
	o := owner(podTemplate("app:v1"))
	o.Object.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: strings.Repeat("x", maxAnnotationsBytes-100)})
	o.Claims = []corev1.PersistentVolumeClaim{claim("data", "1Gi")}
	r := stored(t, o)
	if size(r.Annotations) > maxAnnotationsBytes {
		t.Errorf("annotations of %d bytes would be refused", size(r.Annotations))
	}
	if r.Annotations[ClaimHashAnnotation] == "" {
		t.Error("the hash must not be dropped")
	}
}

func TestExcess(t *testing.T) {
	var all []*appsv1.ControllerRevision
	for i := range 8 {
		all = append(all, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", i)}, Revision: int64(i)})
	}
	live := Live{}
	live.Add("web-7", "0", "")
	for _, tt := range []struct {
		name  string
		limit int32
		want  []string
	}{
		{"S_cloneset_32 two non-live revisions remain", 2, []string{"web-1", "web-2", "web-3", "web-4"}},
		{"none to keep", 0, []string{"web-1", "web-2", "web-3", "web-4", "web-5", "web-6"}},
		{"negative", -1, []string{"web-1", "web-2", "web-3", "web-4", "web-5", "web-6"}},
		{"all may stay", 10, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range Excess(all, live, tt.limit) {
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSort(t *testing.T) {
	now := time.Now()
	at := func(name string, number int64, age time.Duration) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now.Add(-age))}, Revision: number}
	}
	got := []*appsv1.ControllerRevision{at("d", 2, 0), at("c", 1, time.Hour), at("b", 1, 2*time.Hour), at("a", 1, time.Hour)}
	Sort(got)
	var names string
	for _, r := range got {
		names += r.Name
	}
	if names != "bacd" {
		t.Error(names)
	}
}

// Any sequence of template changes keeps one revision per template, the newest number on the present one, and is stable.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var history []*appsv1.ControllerRevision
		for _, image := range rapid.SliceOfN(rapid.IntRange(0, 5), 1, 20).Draw(rt, "images") {
			o := owner(podTemplate(fmt.Sprintf("app:v%d", image)))
			p, err := NewPlan(o, history)
			if err != nil {
				rt.Fatal(err)
			}
			p.settle(p.Update.DeepCopy())
			history = p.Revisions
			if history[len(history)-1] != p.Update {
				rt.Fatal("the update revision is not the newest")
			}
			again, err := NewPlan(o, history)
			if err != nil || again.Write != None || again.Update != p.Update {
				rt.Fatalf("not stable: %v %v", again, err)
			}
			if len(history) > 6 {
				rt.Fatalf("%d revisions of 6 templates", len(history))
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add([]byte(openKruiseData))
	f.Add([]byte(`{"spec":{"template":null}}`))
	present := podTemplate("app:v1")
	data, err := Data(present)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: raw}}
		Holds(r, present, data)
		if decoded, err := Template(r); err == nil {
			if _, err := Data(decoded); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkPlanUnchanged(b *testing.B) {
	var history []*appsv1.ControllerRevision
	for i := range 10 {
		history = append(history, stored(b, owner(podTemplate(fmt.Sprintf("app:v%d", i))), history...))
	}
	o := owner(podTemplate("app:v9"))
	b.ReportAllocs()
	for b.Loop() {
		if p, err := NewPlan(o, history); err != nil || p.Write != None {
			b.Fatal(p, err)
		}
	}
}
