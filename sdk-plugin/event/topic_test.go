package event

import (
	"strings"
	"testing"
)

func TestMatchTopic(t *testing.T) {
	cases := []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a", true}, {"#", "a/b/c", true}, {"#", "/", true}, {"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"$emqx/+/a", "$emqx/t/a", true},
		{"a/#", "a", true}, {"a/#", "a/", true}, {"a/#", "ab", false}, {"a/#", "a/b/c", true},
		{"a/+", "a", false}, {"a/+", "a/", true}, {"a/+", "a/b", true}, {"a/+", "a/b/c", false},
		{"+", "a", true}, {"+", "/a", false}, {"+/+", "/a", true}, {"/+", "/a", true}, {"a", "A", false},
		{"a/b", "a/b", true}, {"a/b", "a/b/", false}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
		{"a/$x", "a/$x", true}, {"+/$x", "a/$x", true},
	}
	for _, c := range cases {
		if got := MatchTopic(c.filter, c.topic); got != c.want {
			t.Errorf("MatchTopic(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
		hidden := c.topic[0] == '$' && strings.ContainsAny(c.filter[:1], "+#")
		if got := Permits(c.filter, c.topic); got != (c.want || hidden) {
			t.Errorf("Permits(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
}

func TestValidFilter(t *testing.T) {
	cases := []struct {
		s             string
		filter, topic bool
	}{
		{"a", true, true}, {"/", true, true}, {"a//b", true, true}, {"$SYS/x", true, true},
		{"#", true, false}, {"+", true, false}, {"a/+/b/#", true, false}, {"+/+", true, false},
		{"", false, false}, {"a#", false, false}, {"#/a", false, false}, {"a/b+", false, false},
		{"a/#/b", false, false}, {"a\x00b", false, false}, {"\xff", false, false}, {"++", false, false},
	}
	for _, c := range cases {
		if got := ValidFilter(c.s); got != c.filter {
			t.Errorf("ValidFilter(%q) = %v", c.s, got)
		}
		if got := ValidTopic(c.s); got != c.topic {
			t.Errorf("ValidTopic(%q) = %v", c.s, got)
		}
	}
}
