// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/v1alpha1"
)

// listOf has n entries and a stash that changes one in 14 of them, none of which is found.
func listOf(n int) any {
	cs := &v1alpha1.CloneSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps.kruise.io/v1alpha1", Kind: "CloneSet"}}
	for i := range n {
		cs.Spec.ScaleStrategy.PodsToDelete = append(cs.Spec.ScaleStrategy.PodsToDelete, fmt.Sprintf("pod-%06d", i))
	}
	var changes []string
	for i := range n / 14 {
		changes = append(changes, fmt.Sprintf(`{"i":%d,"h":"%012d","d":{"t":["x"]}}`, i, i))
	}
	cs.Annotations = map[string]string{
		HubFieldsAnnotation("apps.kruise.io"): `{"o":{"spec":{"o":{"scaleStrategy":{"o":{"podsToDelete":{"l":[` + strings.Join(changes, ",") + `]}}}}}}}`,
	}
	return cs
}

// subsetsOf has n subsets.
func subsetsOf(n int) any {
	ud := &v1alpha1.UnitedDeployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps.kruise.io/v1alpha1", Kind: "UnitedDeployment"}}
	ud.Status.SubsetReplicas = map[string]int32{}
	for i := range n {
		ud.Status.SubsetReplicas[fmt.Sprintf("s%06d", i)] = int32(i)
	}
	return ud
}

// TestHostileSize: whoever may create an object may send the largest one that can be stored, and the manager converts it:
// that must not take time that grows with the square of its size (security 5.12).
func TestHostileSize(t *testing.T) {
	const largest = 72_000 // entries of about 20 bytes; etcd takes 1.5 MiB
	for name, of := range map[string]func(int) any{"list": listOf, "subsets": subsetsOf} {
		t.Run(name, func(t *testing.T) {
			quarter, whole := processorTime(t, of(largest/4)), processorTime(t, of(largest))
			t.Logf("%s, a quarter of it %s", whole, quarter)
			if whole > 7*quarter+50*time.Millisecond { // 4 times is linear, 16 times the square
				t.Errorf("%s, but a quarter of it only %s", whole, quarter)
			}
		})
	}
}

// processorTime is what converting takes, whatever else runs on this machine.
func processorTime(t *testing.T, obj any) time.Duration {
	t.Helper()
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	if _, err := ConvertRaw(raw, "apps.kruise.io/v1beta1"); err != nil {
		t.Fatal(err)
	}
	return used() - before
}
