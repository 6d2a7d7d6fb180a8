package packet

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValidTopicAndFilter(t *testing.T) {
	long := strings.Repeat("a", 65_535)
	tests := []struct {
		s             string
		topic, filter bool
	}{
		{"", false, false},
		{"a", true, true},
		{"/", true, true},
		{"//", true, true},
		{"a//b", true, true},
		{" ", true, true},
		{"$SYS/x", true, true},
		{"$share", true, true},
		{"#", false, true},
		{"+", false, true},
		{"/#", false, true},
		{"+/+", false, true},
		{"a/+/b/#", false, true},
		{"a/#/b", false, false},
		{"##", false, false},
		{"a#", false, false},
		{"#a", false, false},
		{"#/", false, false},
		{"a+", false, false},
		{"+a", false, false},
		{"a/b+/c", false, false},
		{"a/+b", false, false},
		{"++", false, false},
		{"a\x00b", false, false},
		{"\xff", false, false},
		{"\xed\xa0\x80", false, false},
		{"\ufeff", true, true},
		{long, true, true},
		{long + "a", false, false},
		{"$share/g/a", true, true},
		{"$share/g/#", false, true},
		{"$share/g//", true, true},
		{"$share/g/", true, false},
		{"$share/g", true, false},
		{"$share/", true, false},
		{"$share//a", true, false},
		{"$share/g+/a", false, false},
		{"$share/#/a", false, false},
		{"$share/g/a#", false, false},
		{"$shared/g", true, true},
	}
	for _, tt := range tests {
		if got := ValidTopic(tt.s); got != tt.topic {
			t.Errorf("ValidTopic(%.20q) = %v", tt.s, got)
		}
		if got := ValidFilter(tt.s); got != tt.filter {
			t.Errorf("ValidFilter(%.20q) = %v", tt.s, got)
		}
	}
}

func TestSplitShare(t *testing.T) {
	tests := []struct {
		filter, name, rest string
		shared             bool
	}{
		{"$share/g/app/demo", "g", "app/demo", true},
		{"$share/g//", "g", "/", true},
		{"$share", "", "$share", false},
		{"a/b", "", "a/b", false},
		{"$shared/g/a", "", "$shared/g/a", false},
	}
	for _, tt := range tests {
		name, rest, shared := SplitShare(tt.filter)
		if name != tt.name || rest != tt.rest || shared != tt.shared {
			t.Errorf("SplitShare(%q) = %q, %q, %v", tt.filter, name, rest, shared)
		}
	}
}

// TestMatch has the examples of section 4.7 and their neighbours.
func TestMatch(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player12", false},
		{"sport/#", "sport", true},
		{"sport/#", "sport/", true},
		{"sport/#", "sports", false},
		{"#", "a/b/c", true},
		{"#", "/", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+", "finance", true},
		{"+", "/finance", false},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+/tennis/#", "sport/tennis", true},
		{"+/#", "a", true},
		{"a/+/c", "a//c", true},
		{"a", "a/", false},
		{"a/", "a", false},
		{"A", "a", false},
		{"#", "$SYS/monitor/Clients", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/monitor/Clients", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/#", "a/$b", true},
		{"a/+", "a/$b", true},
		{"/#", "/$b", true},
	}
	for _, tt := range tests {
		if got := Match(tt.filter, tt.topic); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.filter, tt.topic, got)
		}
	}
}

// naiveMatch is section 4.7 word by word on split levels.
func naiveMatch(filter, topic []string) bool {
	switch {
	case len(filter) == 0:
		return len(topic) == 0
	case filter[0] == "#":
		return true // also for no level: the parent
	case len(topic) == 0:
		return false
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && naiveMatch(filter[1:], topic[1:])
}

// naiveFilter is section 4.7.1 word by word.
func naiveFilter(filter string) bool {
	if len(filter) == 0 || len(filter) > 65_535 || !utf8.ValidString(filter) || strings.Contains(filter, "\x00") {
		return false
	}
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" && len(levels) > 1 {
		if len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") || len(levels) == 3 && levels[2] == "" {
			return false
		}
		levels = levels[2:]
	}
	for i, level := range levels {
		if level == "+" || level == "#" && i == len(levels)-1 {
			continue
		}
		if strings.ContainsAny(level, "+#") {
			return false
		}
	}
	return true
}

func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"a/+/#", "a/b/c"}, {"#", "$x"}, {"/", "/"}, {"$share/g/#", "a"}, {"+/+", "/a"}, {"a/#", "a"}, {"a+", ""}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if got, want := ValidFilter(filter), naiveFilter(filter); got != want {
			t.Fatalf("ValidFilter(%q) = %v", filter, got)
		}
		if got, want := ValidTopic(topic), topic != "" && len(topic) <= 65_535 && utf8.ValidString(topic) &&
			!strings.ContainsAny(topic, "\x00+#"); got != want {
			t.Fatalf("ValidTopic(%q) = %v", topic, got)
		}
		if !ValidFilter(filter) || !ValidTopic(topic) {
			return
		}
		name, rest, shared := SplitShare(filter)
		if shared != strings.HasPrefix(filter, "$share/") || shared && "$share/"+name+"/"+rest != filter || !ValidFilter(rest) &&
			!strings.HasPrefix(rest, "$share") {
			t.Fatalf("SplitShare(%q) = %q, %q, %v", filter, name, rest, shared)
		}
		hidden := topic[0] == '$' && strings.IndexByte("+#", rest[0]) >= 0
		if got, want := Match(rest, topic), !hidden && naiveMatch(strings.Split(rest, "/"), strings.Split(topic, "/")); got != want {
			t.Fatalf("Match(%q, %q) = %v", rest, topic, got)
		}
	})
}
