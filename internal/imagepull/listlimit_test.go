// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func TestDivide(t *testing.T) {
	for name, tc := range map[string]struct {
		limit int32
		n     int
		most  int32
		want  string
	}{
		"even":              {6, 3, 10, "[2 2 2]"},
		"a rest":            {7, 3, 10, "[3 2 2]"},
		"fewer than images": {2, 4, 10, "[1 1 0 0]"},
		"capped":            {9, 2, 3, "[3 3]"},
		"none":              {9, 0, 3, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(divide(tc.limit, tc.n, tc.most)); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// Whatever nodes do and in whatever order jobs are looked at, no more pulls are under way than the list allows, and the
// list ends.
func TestListLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int32Range(1, 6).Draw(t, "limit")
		nodes := rapid.Int32Range(1, 5).Draw(t, "nodes")
		var images []string
		for i := range rapid.IntRange(1, 5).Draw(t, "images") {
			images = append(images, fmt.Sprintf("i%d:1", i))
		}
		job := listJob(images...)
		job.Annotations = map[string]string{ListParallelismAnnotation: fmt.Sprint(limit)}
		job.Spec.Parallelism = ptr.To(intstr.FromInt32(rapid.Int32Range(1, 4).Draw(t, "parallelism")))
		var children []*appsv1beta1.ImagePullJob
		look := func() {
			var d *listDecision
			d, children = listed(job, children)
			for _, s := range d.shares {
				s.apply()
			}
		}
		for round := 0; job.Status.CompletionTime == nil; round++ {
			if round > 400 {
				t.Fatalf("no end: %+v", job.Status)
			}
			look()
			fair := round > 50
			for _, c := range children {
				st := &c.Status
				if st.CompletionTime != nil || !fair && rapid.Bool().Draw(t, "idle") {
					continue
				}
				st.StartTime, st.Desired = &metav1.Time{Time: t0}, nodes
				if done := min(st.Active, rapid.Int32Range(0, 2).Draw(t, "done")); done > 0 || fair && st.Active > 0 {
					done = max(done, 1)
					st.Active, st.Succeeded = st.Active-done, st.Succeeded+done
				}
				st.Active += max(0, min(int32(parallelism(c))-st.Active, nodes-st.Active-st.Succeeded))
				if st.Succeeded == nodes {
					st.CompletionTime = &metav1.Time{Time: t0}
				}
			}
			sum := int32(0)
			for _, c := range children {
				sum += c.Status.Active
			}
			if sum > limit {
				t.Fatalf("%d pulls at once, the limit is %d", sum, limit)
			}
			if rapid.IntRange(0, 9).Draw(t, "edit") == 0 && !fair {
				limit = max(limit, rapid.Int32Range(1, 6).Draw(t, "new limit")) // a lower one takes time to be kept
				job.Annotations[ListParallelismAnnotation] = fmt.Sprint(limit)
			}
		}
	})
}

func TestListLimitFollows(t *testing.T) {
	job := listJob("a:1", "b:1")
	job.Spec.Parallelism = ptr.To(intstr.FromInt32(10))
	job.Annotations = map[string]string{ListParallelismAnnotation: "4"}
	_, children := listed(job, nil)
	show := func(cs []*appsv1beta1.ImagePullJob) string {
		var out []string
		for _, c := range cs {
			out = append(out, fmt.Sprint(parallelism(c)))
		}
		return strings.Join(out, " ")
	}
	equal(t, "at the start", show(children), "2 2")
	children[0].Status = appsv1beta1.ImagePullJobStatus{StartTime: &metav1.Time{Time: t0}, Desired: 5, Succeeded: 5, CompletionTime: &metav1.Time{Time: t0}}
	d, _ := listed(job, children)
	equal(t, "shares", len(d.shares), 1)
	equal(t, "the rest gets all", d.shares[0].parallelism.IntVal, int32(4))
	for _, gone := range []string{"many", ""} {
		job.Annotations[ListParallelismAnnotation] = gone
		d, _ = listed(job, children)
		equal(t, "given back", len(d.shares), 1)
		equal(t, "all of it", d.shares[0].parallelism, job.Spec.Parallelism)
	}
	d.shares[0].apply()
	children[1].Spec.Parallelism = ptr.To(intstr.FromInt32(0)) // paused by hand
	d, _ = listed(job, children)
	equal(t, "what is set by hand stays", len(d.shares), 0)
}

// A child whose turn had not come when the limit went away is not paused for ever.
func TestListLimitRemoved(t *testing.T) {
	job := listJob("a:1", "b:1")
	job.Annotations = map[string]string{ListParallelismAnnotation: "1"}
	c := newCluster(t, job)
	r := &lists{c.config}
	look := func() (out []string) {
		t.Helper()
		for range 2 {
			if _, err := reconciled(t, r, job); err != nil {
				t.Fatal(err)
			}
		}
		list := &appsv1beta1.ImagePullJobList{}
		if err := c.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			out = append(out, fmt.Sprint(list.Items[i].Spec.Image, " ", parallelism(&list.Items[i])))
		}
		slices.Sort(out)
		return out
	}
	equal(t, "limited", look(), []string{"a:1 1", "b:1 0"})
	c.get(t, job)
	job.Annotations = nil
	if err := c.Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	equal(t, "not limited", look(), []string{"a:1 1", "b:1 1"})
}
