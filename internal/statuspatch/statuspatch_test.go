// SPDX-License-Identifier: Apache-2.0

package statuspatch

import (
	"encoding/json"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"pgregory.net/rapid"
)

type status struct {
	Required int32             `json:"required"`
	Optional string            `json:"optional,omitempty"`
	List     []string          `json:"list,omitempty"`
	Inner    map[string]string `json:"inner,omitempty"`
}

func TestOf(t *testing.T) {
	for name, tc := range map[string]struct {
		version       string
		before, after status
		want          string
	}{
		"a required zero is sent": {"", status{}, status{}, `{"status":{"required":0}}`},
		"gone fields are null":    {"", status{Optional: "x"}, status{Required: 1}, `{"status":{"optional":null,"required":1}}`},
		"a version is a precondition": {"7", status{}, status{Optional: "x"},
			`{"metadata":{"resourceVersion":"7"},"status":{"optional":"x","required":0}}`},
		"keys of maps go": {"", status{Inner: map[string]string{"a": "1", "b": "2"}}, status{Inner: map[string]string{"b": "3"}},
			`{"status":{"inner":{"a":null,"b":"3"},"required":0}}`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Of(tc.version, &tc.before, &tc.after)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := p.Data(nil); err != nil || string(data) != tc.want {
				t.Errorf("patch %s (%v), want %s", data, err, tc.want)
			}
		})
	}
}

// Whatever was there, the patch leaves what is wanted.
func TestApplies(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) status {
		return status{
			Required: rapid.Int32Range(0, 2).Draw(t, "required"), Optional: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "optional"),
			List:  rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y"}), 0, 2).Draw(t, "list"),
			Inner: rapid.MapOfN(rapid.SampledFrom([]string{"k", "l"}), rapid.SampledFrom([]string{"1", "2"}), 0, 2).Draw(t, "inner"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := gen.Draw(t, "before"), gen.Draw(t, "after")
		encode := func(v any) []byte {
			data, err := json.Marshal(map[string]any{"status": v})
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		p, err := Of("", before, after)
		if err != nil {
			t.Fatal(err)
		}
		data, err := p.Data(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := jsonpatch.MergePatch(encode(before), data)
		if err != nil {
			t.Fatal(err)
		}
		if !jsonpatch.Equal(got, encode(after)) {
			t.Fatalf("%s by %s gives %s, want %s", encode(before), data, got, encode(after))
		}
	})
}
