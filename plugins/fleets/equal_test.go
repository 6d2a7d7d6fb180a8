package main

import (
	"testing"

	sdk "tributary.io/sdk-plugin"
)

func TestEqual(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"9007199254740993", "9007199254740992", false}, {"9007199254740993", "9007199254740993", true},
		{"-9007199254740993", "9007199254740993", false}, {"1e400", "1E+400", true}, {"1e400", "1e401", false},
		{"1", "1.0", true}, {"100", "1e2", true}, {"1.50", "15e-1", true}, {"0", "-0", true}, {"0.0", "0e9", true},
		{"0.1", "0.10000000000000000001", true}, {"0.1", "0.2", false}, {"12345678901234567890123", "12345678901234567890124", false},
		{"10", "1", false}, {"1e99999999999", "1E99999999999", true},
		{`"a"`, `"\u0061"`, true}, {`"\ud800"`, `"\ud801"`, false}, {`"\ud83d\ude00"`, `"😀"`, true}, {`"\n\/"`, `"\u000a/"`, true},
		{`"a"`, `"ab"`, false}, {`""`, `""`, true}, {`"1"`, "1", false},
		{`[1,2.0]`, `[1.0,2]`, true}, {`{"a":9007199254740993}`, `{"a":9007199254740992}`, false},
	} {
		a, b := sdk.ParseJSON([]byte(`{"v":`+c.a+`}`)).Get("v"), sdk.ParseJSON([]byte(`{"v":`+c.b+`}`)).Get("v")
		if got := equal(a, b); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}
