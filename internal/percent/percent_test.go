// SPDX-License-Identifier: Apache-2.0

package percent

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in       intstr.IntOrString
		total    int
		up, down int
		percent  bool
	}{
		{intstr.FromInt32(0), 10, 0, 0, false},
		{intstr.FromInt32(7), 5, 7, 7, false},
		{intstr.FromString("33%"), 10, 4, 3, true},
		{intstr.FromString("33.3%"), 1000, 333, 333, true},
		{intstr.FromString("33.33%"), 1000, 334, 333, true},
		{intstr.FromString("0.5%"), 100, 1, 0, true},
		{intstr.FromString("0%"), 100, 0, 0, true},
		{intstr.FromString("0.00%"), 100, 0, 0, true},
		{intstr.FromString("007%"), 100, 7, 7, true},
		{intstr.FromString("99%"), 10, 10, 9, true},
		{intstr.FromString("100%"), 10, 10, 10, true},
		{intstr.FromString("100.000%"), 10, 10, 10, true},
		{intstr.FromString("250%"), 4, 10, 10, true},
		{intstr.FromString("50%"), 0, 0, 0, true},
		{intstr.FromString("50%"), -3, 0, 0, true},
		{intstr.FromString("0.00000000000000001%"), 1, 1, 0, true},
		{intstr.FromString("99999999999999999%"), math.MaxInt32, math.MaxInt32, math.MaxInt32, true},
	} {
		t.Run(tt.in.String(), func(t *testing.T) {
			v, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if v.Up(tt.total) != tt.up || v.Down(tt.total) != tt.down || v.IsPercent() != tt.percent {
				t.Errorf("of %d: up %d, down %d, percent %v; want %+v", tt.total, v.Up(tt.total), v.Down(tt.total), v.IsPercent(), tt)
			}
		})
	}
	for _, s := range []string{"", "%", "5", "abc", "abc%", "-1%", "-0.5%", "1.%", ".5%", "1,5%", "1e2%", " 5%", "5 %", "+5%", "5%%", "NaN%", "123456789012345678%", "१%"} {
		t.Run("refused "+s, func(t *testing.T) {
			if v, err := Parse(intstr.FromString(s)); err == nil {
				t.Errorf("accepted as %+v", v)
			}
		})
	}
	if _, err := Parse(intstr.FromInt32(-1)); err == nil {
		t.Error("-1 accepted")
	}
	if _, err := Parse(intstr.IntOrString{Type: 7}); err == nil {
		t.Error("unknown type accepted")
	}
}

func TestIsWhole(t *testing.T) {
	for s, want := range map[string]bool{"100%": true, "100.0%": true, "0100%": true, "99.9%": false, "100.1%": false} {
		v, err := Parse(intstr.FromString(s))
		if err != nil {
			t.Fatal(err)
		}
		if v.IsWhole() != want {
			t.Errorf("%s: %v", s, v.IsWhole())
		}
	}
	if v, _ := Parse(intstr.FromInt32(100)); v.IsWhole() {
		t.Error("the number 100 is not a percentage")
	}
}

func TestDefaults(t *testing.T) {
	bad, good := intstr.FromString("x"), intstr.FromString("25%")
	if Up(nil, 10, 4) != 4 || Down(nil, 10, 4) != 4 || Up(&bad, 10, 4) != 4 || Down(&bad, 10, 4) != 4 {
		t.Error("absent or invalid must give the default")
	}
	if Up(&good, 10, 4) != 3 || Down(&good, 10, 4) != 2 {
		t.Error("wrong scaling")
	}
}

func TestExactRounding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole, fraction := rapid.IntRange(0, 1000).Draw(t, "whole"), rapid.StringMatching(`[0-9]{1,8}`).Draw(t, "fraction")
		total := rapid.IntRange(0, 100000).Draw(t, "total")
		text := fmt.Sprintf("%d.%s", whole, fraction)
		v, err := Parse(intstr.FromString(text + "%"))
		if err != nil {
			t.Fatal(err)
		}
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatal("rat")
		}
		exact.Mul(exact, big.NewRat(int64(total), 100))
		down := new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()
		up := down
		if !exact.IsInt() {
			up++
		}
		if int64(v.Down(total)) != down || int64(v.Up(total)) != up {
			t.Fatalf("%s%% of %d: %d..%d, want %d..%d", text, total, v.Down(total), v.Up(total), down, up)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "%", "1%", "-1.5%", "99999999999999999999%"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, total int) {
		v, err := Parse(intstr.FromString(s))
		if err != nil {
			return
		}
		if d, u := v.Down(total), v.Up(total); d < 0 || u < d || u > d+1 || u > math.MaxInt32 {
			t.Errorf("%q of %d: %d..%d", s, total, d, u)
		}
	})
}
