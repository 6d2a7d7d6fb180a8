package topic

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// dataLines calls fn with each line of a file in testdata that is neither empty nor a comment.
func dataLines(t *testing.T, name string, fn func(line string)) {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "# ") {
			fn(line)
			n++
		}
	}
	if n < 20 {
		t.Fatalf("%s has %d lines", name, n)
	}
}

func TestPredicates(t *testing.T) {
	dataLines(t, "pairs.txt", func(line string) {
		words := strings.Fields(line)
		filter, other, holds := words[0], words[1], words[2:]
		check := func(name string, got bool) {
			if want := slices.Contains(holds, name); got != want {
				t.Errorf("%s(%q, %q) = %v", name, filter, other, got)
			}
		}
		if ValidName(other) {
			check("match", Match(filter, other))
			check("permits", Permits(filter, other))
		}
		check("covers", Covers(filter, other))
		check("overlaps", Overlaps(filter, other))
		if Overlaps(other, filter) != Overlaps(filter, other) {
			t.Errorf("%q and %q overlap in one order only", filter, other)
		}
	})
}

func TestValid(t *testing.T) {
	check := func(s string, as ...string) {
		for name, got := range map[string]bool{"name": ValidName(s), "filter": ValidFilter(s), "subscription": ValidSubscription(s)} {
			if want := slices.Contains(as, name); got != want {
				t.Errorf("%.20q is valid as a %s: %v", s, name, got)
			}
		}
	}
	dataLines(t, "valid.txt", func(line string) {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := strconv.Unquote(quoted)
		check(s, strings.Fields(line[len(quoted):])...)
	})
	long := strings.Repeat("a", 65_535)
	check(long, "name", "filter", "subscription")
	check(long + "a")
	check("$share/g/"+long[:65_526], "name", "filter", "subscription")
	check("$share/g/" + long[:65_527])
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
		if got, want := ValidSubscription(filter), naiveFilter(filter); got != want {
			t.Fatalf("ValidSubscription(%q) = %v", filter, got)
		}
		if got, want := ValidName(topic), topic != "" && len(topic) <= 65_535 && utf8.ValidString(topic) &&
			!strings.ContainsAny(topic, "\x00+#"); got != want {
			t.Fatalf("ValidName(%q) = %v", topic, got)
		}
		if !ValidSubscription(filter) || !ValidName(topic) {
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

// names are all topic names of up to four levels, of an alphabet with one level more than
// filterOf draws from: if a filter has room for any level, some name uses it. The empty name
// is among them, which none of Match, Covers and Overlaps knows to be none.
func names() (list []string) {
	var grow func(prefix string, depth int)
	grow = func(prefix string, depth int) {
		for _, level := range []string{"a", "b", "c", "", "$x"} {
			if name := prefix + level; depth < 4 {
				list = append(list, name)
				grow(name+"/", depth+1)
			}
		}
	}
	grow("", 0)
	return list
}

// filterOf draws a filter of up to three levels.
func filterOf(t *rapid.T, label string) string {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x", "+"})
	levels := rapid.SliceOfN(level, 1, 3).Draw(t, label)
	if rapid.Bool().Draw(t, label+" ends in #") {
		levels[len(levels)-1] = "#"
	}
	if filter := strings.Join(levels, "/"); filter != "" {
		return filter
	}
	return "#"
}

func naiveHidden(filter, name string) bool {
	return strings.HasPrefix(name, "$") && strings.ContainsAny(filter[:1], "+#")
}

// Two filters are compared name by name.
func TestPredicatesAgainstNames(t *testing.T) {
	all := names()
	rapid.Check(t, func(t *rapid.T) {
		filter, other := filterOf(t, "filter"), filterOf(t, "other")
		var outside string
		var isOutside, common bool
		for _, name := range all {
			permits := naiveMatch(strings.Split(filter, "/"), strings.Split(name, "/"))
			permitsOther := naiveMatch(strings.Split(other, "/"), strings.Split(name, "/"))
			match, matchOther := permits && !naiveHidden(filter, name), permitsOther && !naiveHidden(other, name)
			if Permits(filter, name) != permits || Match(filter, name) != match {
				t.Fatalf("%q and %q: permits %v, match %v", filter, name, permits, match)
			}
			common = common || permits && permitsOther
			if matchOther && !match {
				outside, isOutside = name, true
			}
		}
		if Overlaps(filter, other) != common {
			t.Fatalf("%q overlaps %q: %v", filter, other, common)
		}
		switch covers := Covers(filter, other); {
		case covers && isOutside:
			t.Fatalf("%q covers %q, but not %q", filter, other, outside)
		case !covers && !isOutside && filter != "+/#": // which matches what # matches
			t.Fatalf("%q does not cover %q", filter, other)
		}
	})
}

func TestNothingAllocates(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		Match("a/+/#", "a/b/c")
		Permits("a/+/#", "a/b/c")
		Covers("a/+/#", "a/b/c/#")
		Overlaps("a/+/#", "a/b/c/#")
		ValidSubscription("$share/g/a/+/#")
		SplitShare("$share/g/a/+/#")
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
