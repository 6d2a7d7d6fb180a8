package access

import (
	"strings"
	"testing"
)

func TestMatchName(t *testing.T) {
	for pattern, c := range map[string]struct{ yes, no string }{
		"plant":   {"plant", "plant-1 PLANT lant *"},
		"plant*":  {"plant plant-1 plant* plant-*", "plan plan* *"},
		"*":       {"plant *", ""},
		"p*t":     {"p*t", "plant pt"},
		"plant**": {"plant* plant*x", "plant plant-1"},
	} {
		for _, name := range strings.Fields(c.yes) {
			if !MatchName(pattern, name) {
				t.Errorf("%q does not match %q", pattern, name)
			}
		}
		for _, name := range append(strings.Fields(c.no), "") {
			if MatchName(pattern, name) != (name == "" && pattern == "*") {
				t.Errorf("%q: %q", pattern, name)
			}
		}
	}
	g := &Grant{Read: []string{"a", "b*"}, Write: []string{"c"}}
	if !g.MayRead("a") || !g.MayRead("b1") || g.MayRead("c") || g.MayWrite("a") || !g.MayWrite("c") || MatchAnyName(nil, "") {
		t.Error("wrong rights")
	}
}
