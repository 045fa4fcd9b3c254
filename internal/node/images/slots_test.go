// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// Tasks that come together are pulled in the order of their creation, whatever their names (image-pulling W15).
func TestOldestFirst(t *testing.T) {
	var tags []appsv1beta1.ImageTagSpec
	var want []string
	for i := range 9 {
		one := tag(fmt.Sprint(9-i), appsv1beta1.PullAlways)
		one.CreatedAt = ptr.To(metav1.NewTime(time.Now().Add(time.Duration(i-20) * time.Second)))
		tags = append(tags, one)
		want = append(want, "nginx:"+one.Tag)
	}
	a := newAgent(t, &fakecri.Server{}, 1, nodeImage("nginx", tags...))
	a.until("done", finished)
	var got []string
	for _, p := range a.cri.Pulls() {
		got = append(got, p.Image.Image)
	}
	if !slices.Equal(got, want) {
		t.Errorf("pulled %v, want %v", got, want)
	}
}

// A ticket that is given up, before or after its slot is given, keeps nobody waiting.
func TestSlots(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s := &slots{free: 1}
	first, second, third := s.ask(), s.ask(), s.ask()
	if err := s.wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(over, second); err == nil {
		t.Error("waited although it is over")
	}
	s.release() // to the third
	if err := s.wait(over, third); err == nil {
		t.Error("waited although it is over")
	}
	if s.free != 1 || len(s.queue) != 0 {
		t.Errorf("%d free, %d wait", s.free, len(s.queue))
	}
}
