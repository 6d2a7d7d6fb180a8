package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Node // nil: refused
	}{
		{`1`, []Node{{0, 1, 1}}},
		{` "a\"b" `, []Node{{1, 7, 1}}},
		{`{}`, []Node{{0, 2, 1}}},
		{`{"a":[1]}`, []Node{{0, 9, 4}, {1, 4, 0}, {5, 8, 4}, {6, 7, 4}}},
		{`{"\u0061":null,"b":{}}`, []Node{{0, 22, 5}, {1, 9, 1}, {10, 14, 3}, {15, 18, 0}, {19, 21, 5}}},
		{"", nil}, {"{", nil}, {`{"a"}`, nil}, {`{"a":}`, nil}, {`[1,]`, nil}, {`01`, nil}, {`1 2`, nil}, {`"` + "\xff" + `"`, nil},
		{"\"\n\"", nil},
		{strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), nil},
	} {
		nodes, ok := Append(nil, []byte(c.text))
		if ok != (c.want != nil) {
			t.Errorf("%.40s: %v", c.text, ok)
		} else if d := cmp.Diff(nodes, c.want); ok && d != "" {
			t.Errorf("%s: %s", c.text, d)
		}
	}
	room := make([]Node, 0, 100)
	text := []byte(`{"state":{"reported":{"temperature":21.5,"on":true}},"version":3}`)
	if n := testing.AllocsPerRun(100, func() { Append(room, text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSkip(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	for _, c := range []struct {
		text string
		end  int
		ok   bool
	}{
		{`1`, 1, true}, {`1 2`, 1, true}, {`"a\"b",`, 6, true}, {`{}x`, 2, true}, {`[{"a":[1,{}]},null]`, 19, true},
		{deep, len(deep), true}, {"[" + deep + "]", MaxDepth, false}, {`{"a":` + deep + "}", 4 + MaxDepth, false},
		{"", 0, false}, {"[1,]", 3, false}, {`{"a" 1}`, 5, false}, {`{"a":1,}`, 7, false}, {`[1}`, 2, false}, {`{"a":1]`, 6, false},
		{`[01]`, 1, false}, {`["a]`, 1, false}, {`[1`, 2, false}, {`{"a":tru}`, 5, false},
	} {
		if end, ok := Skip([]byte(c.text), 0); end != c.end || ok != c.ok {
			t.Errorf("%.40s: %d, %v, want %d, %v", c.text, end, ok, c.end, c.ok)
		}
	}
	text := []byte(`{"state":{"reported":{"temperature":21.5,"on":true}},"version":3}`)
	if n := testing.AllocsPerRun(100, func() { Skip(text, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is accepted is what encoding/json accepts, but for UTF-8 and depth, and
// nodes lie within the text and each other, on which the SDK builds.
func FuzzAppend(f *testing.F) {
	f.Add([]byte(`{"a":[1,2,{"b":"c\u00e9"}],"d":-1.5e3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		nodes, ok := Append(nil, text)
		if valid := json.Valid(text) && utf8.Valid(text); ok && !valid || !ok && valid && len(text) < MaxDepth {
			t.Fatalf("%q: %v", text, ok)
		}
		end, skips := Skip(text, SkipSpace(text, 0))
		if skips = skips && SkipSpace(text, end) == len(text) && utf8.Valid(text); skips != ok {
			t.Fatalf("%q: Skip says %v, Append %v", text, skips, ok)
		}
		if !ok {
			return
		}
		if end := check(t, text, nodes, 0); end != len(nodes) {
			t.Fatalf("%q: the root ends at %d of %d nodes", text, end, len(nodes))
		}
	})
}

// check checks the value at nodes[at] and returns where the next one is.
func check(t *testing.T, text []byte, nodes []Node, at int) int {
	n := nodes[at]
	if n.Start >= n.End || int(n.End) > len(text) || int(n.Next) <= at || int(n.Next) > len(nodes) {
		t.Fatalf("%q: node %d is %+v", text, at, n)
	}
	opener := text[n.Start]
	i := at + 1
	for i < int(n.Next) {
		if opener == '{' {
			name := nodes[i]
			if name.Start <= n.Start || name.End > n.End || text[name.Start] != '"' || text[name.End-1] != '"' || name.Next > 1 {
				t.Fatalf("%q: name %d is %+v", text, i, name)
			}
			i++
		}
		if opener != '{' && opener != '[' || nodes[i].Start <= n.Start || nodes[i].End >= n.End {
			t.Fatalf("%q: value %d is not within %d", text, i, at)
		}
		i = check(t, text, nodes, i)
	}
	return i
}
