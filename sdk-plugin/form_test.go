package sdk

import (
	"net/url"
	"strings"
	"testing"
)

func TestUnescape(t *testing.T) {
	for _, s := range []string{"", "a", "a%20b", "%41%2f%2F", "%", "%4", "%zz", "a%", "%00", "%c3%A9", "+", "%+1", "%-1", "% 1"} {
		want, err := url.PathUnescape(s)
		if got, ok := Unescape(s); ok != (err == nil) || ok && got != want {
			t.Errorf("%q: %q %v, net/url says %q, %v", s, got, ok, want, err)
		}
	}
}

func TestFormValue(t *testing.T) {
	for _, form := range []string{"", "a=1", "a=1&a=2", "b=1&a=x%20y+z", "a", "a=", "aa=1", "a=1=2", "&&a=3", "a=%zz"} {
		values, _ := url.ParseQuery(strings.ReplaceAll(form, "a=%zz", "a="))
		if got := FormValue(form, "a"); got != values.Get("a") {
			t.Errorf("%q: %q, net/url says %q", form, got, values.Get("a"))
		}
	}
}
