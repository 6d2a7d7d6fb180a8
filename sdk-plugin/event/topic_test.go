package event

import "testing"

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
	}
}
