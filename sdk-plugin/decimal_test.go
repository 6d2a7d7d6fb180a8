package sdk

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// The short way and strconv agree to the last bit and byte.
func TestDecimals(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, f float64) {
		want := strconv.FormatFloat(f, 'f', -1, 64)
		if got, ok := appendDecimal(nil, f); ok && string(got) != want {
			t.Fatalf("%v is written %s, want %s", f, got, want)
		}
		if got, ok := parseDecimal([]byte(want)); ok && math.Float64bits(got) != math.Float64bits(f) {
			t.Fatalf("%s is read as %v", want, got)
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, -1, 21.5, 0.1, 0.0001, 0.00001, 1.00005, -273.15, 99999999999.9999,
		999999999999.9999,
		1e15, 1 << 53, 1<<53 + 2, 0.30000000000000004, math.Pi, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		check(t, f)
	}
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.Int64Range(-1e16, 1e16).Draw(t, "digits")
		check(t, float64(digits)/math.Pow10(rapid.IntRange(0, 12).Draw(t, "decimals")))
		check(t, rapid.Float64().Draw(t, "any"))
	})
	for _, text := range []string{"-0", "0.50", "00", "9007199254740993", "1e3", "12345678901234567"} {
		got, ok := parseDecimal([]byte(text))
		exact, _ := strconv.ParseFloat(text, 64)
		if ok && math.Float64bits(got) != math.Float64bits(exact) {
			t.Errorf("%s is read as %v, want %v", text, got, exact)
		}
	}
	if got, ok := appendDecimal(nil, 21.5); !ok || string(got) != "21.5" {
		t.Errorf("21.5 is written %s by the long way", got)
	}
}
