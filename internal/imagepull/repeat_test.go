// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"testing"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// A job of type Never pulls again after the time that its annotation says, each node a little sooner or later; what is no
// such time is a day (W26).
func TestRepeat(t *testing.T) {
	for value, want := range map[string]struct{ least, most int32 }{
		"6h": {6*3600 - 600, 6*3600 + 600}, "10m": {540, 660}, "90m": {5400 - 540, 5400 + 540}, "720h": {2592000 - 600, 2592000 + 600},
		"1m": {85800, 87000}, "1000h": {85800, 87000}, "often": {85800, 87000}, "": {85800, 87000},
	} {
		job := pullJob("job")
		job.Spec.CompletionPolicy.Type = appsv1beta1.Never
		job.Annotations = map[string]string{RepeatAnnotation: value}
		r := requestOf(job)
		seen := map[int32]bool{}
		for i := range 50 {
			ttl := *r.policy(fmt.Sprint("node-", i)).TTLSecondsAfterFinished
			within(t, ttl, want.least, want.most)
			seen[ttl] = true
		}
		if len(seen) < 10 {
			t.Errorf("%s: all nodes pull at once: %v", value, seen)
		}
	}
	job := pullJob("job") // it ends
	job.Annotations = map[string]string{RepeatAnnotation: "10m"}
	r := requestOf(job)
	within(t, *r.policy("n").TTLSecondsAfterFinished, 2100, 2400)
}

// The children of a list pull as often as the list says, also when it says otherwise.
func TestRepeatOfList(t *testing.T) {
	job := listJob("a:1", "b:1")
	job.Spec.CompletionPolicy = appsv1beta1.CompletionPolicy{Type: appsv1beta1.Never}
	job.Annotations = map[string]string{RepeatAnnotation: "6h"}
	d, children := listed(job, nil)
	show := func() (out []string) {
		for _, c := range d.repeats {
			setRepeat(c, repeatOf(job))
		}
		for _, c := range children {
			out = append(out, c.Annotations[RepeatAnnotation])
		}
		return out
	}
	equal(t, "at the start", show(), []string{"6h", "6h"})
	equal(t, "changes", len(d.repeats), 0)
	for _, c := range []struct{ value, want string }{{"12h", "12h"}, {"nonsense", ""}, {"1h", "1h"}, {"", ""}} {
		job.Annotations[RepeatAnnotation] = c.value
		d, children = listed(job, children)
		equal(t, "changes to "+c.value, len(d.repeats), 2)
		equal(t, "after "+c.value, show(), []string{c.want, c.want})
		d, children = listed(job, children)
		equal(t, "nothing more to do", len(d.repeats)+len(d.create)+len(d.delete), 0)
	}
}
