// SPDX-License-Identifier: Apache-2.0

// Package percent reads the "number or percent" values of the API (partition, maxUnavailable, maxSurge) with one strict
// parser, so that what admission accepts is exactly what the controllers compute with (cloneset 5.4, weakness 6).
// Decimals such as "33.3%" are allowed. All arithmetic is exact: no floating point.
package percent

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxDigits bounds the digits of a percentage, so that its mantissa and its denominator fit into 64 bits.
const maxDigits = 17

var (
	errNegative = errors.New("must be greater than or equal to 0")
	errFormat   = errors.New("must be a non-negative integer or a percentage: digits, optionally decimals, and an ending '%' (e.g. '1%', '33.3%')")
	errDigits   = errors.New("must not have more than 17 digits")
	errType     = errors.New("must be an integer or a string")
)

// Value is a parsed, non-negative number or percentage. The zero Value is the number 0.
type Value struct {
	mantissa uint64
	// denominator is 0 for a plain number, else 100 times a power of ten.
	denominator uint64
}

// Parse reads v. It refuses negative numbers, strings that are not a percentage (also plain numbers in a string) and
// percentages of more than 17 digits; the error's text is fit for a field error.
func Parse(v intstr.IntOrString) (Value, error) {
	switch v.Type {
	case intstr.Int:
		if v.IntVal < 0 {
			return Value{}, errNegative
		}
		return Value{mantissa: uint64(v.IntVal)}, nil
	case intstr.String:
		return parse(v.StrVal)
	}
	return Value{}, errType
}

func parse(s string) (Value, error) {
	digits, found := strings.CutSuffix(s, "%")
	if !found {
		return Value{}, errFormat
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if !isDigits(whole) || (point && !isDigits(fraction)) {
		if negative, ok := strings.CutPrefix(digits, "-"); ok && negative != "" && isDigits(strings.Replace(negative, ".", "", 1)) {
			return Value{}, errNegative
		}
		return Value{}, errFormat
	}
	whole = strings.TrimLeft(whole, "0")
	fraction = strings.TrimRight(fraction, "0")
	if len(whole)+len(fraction) > maxDigits {
		return Value{}, errDigits
	}
	out := Value{denominator: 100}
	for range fraction {
		out.denominator *= 10
	}
	if whole+fraction != "" {
		mantissa, err := strconv.ParseUint(whole+fraction, 10, 64)
		if err != nil {
			return Value{}, errFormat
		}
		out.mantissa = mantissa
	}
	return out, nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// IsPercent tells whether v was written as a percentage.
func (v Value) IsPercent() bool { return v.denominator != 0 }

// IsWhole tells whether v is exactly 100 percent, however it was written.
func (v Value) IsWhole() bool { return v.denominator != 0 && v.mantissa == v.denominator }

// Up returns v itself, or v percent of total rounded up. The result is between 0 and 2³¹−1.
func (v Value) Up(total int) int { return v.of(total, true) }

// Down returns v itself, or v percent of total rounded down. The result is between 0 and 2³¹−1.
func (v Value) Down(total int) int { return v.of(total, false) }

func (v Value) of(total int, up bool) int {
	if v.denominator == 0 {
		return int(v.mantissa)
	}
	if total <= 0 {
		return 0
	}
	high, low := bits.Mul64(v.mantissa, uint64(total))
	if high >= v.denominator {
		return math.MaxInt32
	}
	quotient, remainder := bits.Div64(high, low, v.denominator)
	if up && remainder > 0 {
		quotient++
	}
	return int(min(quotient, math.MaxInt32))
}

// Up parses v and returns it scaled to total, rounded up; def if v is nil or does not parse.
func Up(v *intstr.IntOrString, total, def int) int {
	if v == nil {
		return def
	}
	parsed, err := Parse(*v)
	if err != nil {
		return def
	}
	return parsed.Up(total)
}

// Down parses v and returns it scaled to total, rounded down; def if v is nil or does not parse.
func Down(v *intstr.IntOrString, total, def int) int {
	if v == nil {
		return def
	}
	parsed, err := Parse(*v)
	if err != nil {
		return def
	}
	return parsed.Down(total)
}
