package sdk

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"tributary.io/sdk-plugin/jsontext"
)

func TestValue(t *testing.T) {
	const doc = ` {"a":{"b":[1,-2.5e3,"x\n\u00e9\ud83d\ude00",true,null,{}]},"n":9223372036854775807,"m":-9223372036854775808,
		"big":9223372036854775808,"huge":1e999,"e":"","k\"ey":1,"a b":"c","dup":1,"dup":2,"f":false} `
	root := ParseJSON([]byte(doc))
	if root.Kind() != Object {
		t.Fatal("the document was refused")
	}
	var kinds []Kind
	for v := range root.Get("a", "b").Elements() {
		kinds = append(kinds, v.Kind())
	}
	if want := []Kind{Number, Number, String, Bool, Null, Object}; string(kindBytes(kinds)) != string(kindBytes(want)) {
		t.Errorf("elements of a.b: %v, want %v", kinds, want)
	}
	for v := range root.Get("a", "b").Elements() {
		if s, ok := v.String(); ok && s != "x\né😀" {
			t.Errorf("string: %q", s)
		}
		if f, ok := v.Float(); ok && f != 1 && f != -2500 {
			t.Errorf("float: %v", f)
		}
	}
	ints := []struct {
		name string
		n    int64
		ok   bool
	}{{"n", math.MaxInt64, true}, {"m", math.MinInt64, true}, {"big", 0, false}, {"huge", 0, false}, {"e", 0, false}, {`k"ey`, 1, true},
		{"dup", 2, true}, {"none", 0, false}}
	for _, c := range ints {
		if n, ok := root.Get(c.name).Int(); ok != c.ok || ok && n != c.n {
			t.Errorf("Int of %s: %d %v, want %d %v", c.name, n, ok, c.n, c.ok)
		}
	}
	if _, ok := root.Get("huge").Float(); ok {
		t.Error("1e999 was taken for a float64")
	}
	if b, ok := root.Get("f").Bool(); b || !ok {
		t.Error("Bool of false")
	}
	if s, ok := root.Get("a b").String(); s != "c" || !ok {
		t.Errorf("a b: %q %v", s, ok)
	}
	if root.Get("a", "b", "c").Exists() || root.Get("e", "x").Exists() || (Value{}).Get("x").Exists() {
		t.Error("a path through something that is no object leads somewhere")
	}
	var names []string
	for name := range root.Fields() {
		names = append(names, name)
	}
	if got := strings.Join(names, ","); got != `a,n,m,big,huge,e,k"ey,a b,dup,dup,f` {
		t.Errorf("fields: %s", got)
	}
}

func kindBytes(kinds []Kind) (b []byte) {
	for _, k := range kinds {
		b = append(b, byte(k))
	}
	return b
}

func TestCheckJSONDepth(t *testing.T) {
	for depth, want := range map[int]bool{1: true, jsontext.MaxDepth: true, jsontext.MaxDepth + 1: false, 1 << 20: false} {
		for _, pair := range []string{"[]", `{"":}`} {
			half := len(pair) - 1
			text := strings.Repeat(pair[:half], depth-1) + "[]" + strings.Repeat(pair[half:], depth-1)
			if got := ParseJSON([]byte(text)).Exists(); got != want {
				t.Errorf("%d levels of %s accepted: %v, want %v", depth, pair, got, want)
			}
		}
	}
}

func TestWriter(t *testing.T) {
	var w Writer
	w.Object().Key("s").String("q\"\\\n\x01é\xff").Key("f").Float(21.5).Key("tiny").Float(1e-9).Key("nan").Float(math.NaN()).
		Key("a").Array().Int(-1).Bool(true).Null().Object().End().Array().End().End().
		Field("copy", ParseJSON([]byte(`[1, 2]`))).Field("gone", Value{}).Key("o").Object().Key("").String("").End().End()
	const want = `{"s":"q\"\\\n\u0001é�","f":21.5,"tiny":1e-09,"nan":null,"a":[-1,true,null,{},[]],"copy":[1, 2],"o":{"":""}}`
	if got := string(w.Bytes()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(w.Reset().Array().End().Bytes()); got != "[]" {
		t.Errorf("after Reset: %s", got)
	}
}

func TestJSONAllocatesNothing(t *testing.T) {
	data := []byte(`{"state":{"reported":{"temperature":21.5,"name":"a","list":[1,2,3]}},"version":3}`)
	var w Writer
	var d document
	if n := testing.AllocsPerRun(100, func() {
		reported := d.parse(data).Get("state", "reported")
		sum, _ := reported.Get("temperature").Float()
		for v := range reported.Get("list").Elements() {
			f, _ := v.Float()
			sum += f
		}
		for name := range reported.Fields() {
			sum += float64(len(name))
		}
		w.Reset().Object().Key("sum").Float(sum).End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzJSON compares with encoding/json: what is valid, and what every value is.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":{"b":[1,-2.5e3,"x\n\u00e9\ud83d\ude00",true,null,{}]},"dup":1,"dup":{"c":2}}`, ` [ ] `, `"\ud800"`, `"\ud800\u0041"`, "\"\xff\"",
		`-0`, `01`, `1.`, `.5`, `1e`, `+1`,
		`[1,]`, `{"a":1,}`, `{"a"}`, `{,}`, `[}`, `tru`, `nul`, `"`, `"\`, `"\u12`, "\"\n\"", `{"a":1}{}`, ``, ` `, `1 2`, "\ufeff1", `{"a":}`,
		`[[]`, `{"a":[}]`, `{"\u0061":1,"a":2}`, "[1\x00]", "[\v1]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		input := bytes.Clone(b)
		v := ParseJSON(b)
		want := json.Valid(b) && utf8.Valid(b)
		if v.Exists() != want {
			if want && depthOf(b) > jsontext.MaxDepth {
				return
			}
			t.Fatalf("accepted %v, encoding/json %v: %q", v.Exists(), want, b)
		}
		if !want {
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var tree any
		if err := d.Decode(&tree); err != nil {
			t.Fatalf("valid, and encoding/json says %v", err)
		}
		compare(t, v, tree)
		if !bytes.Equal(b, input) {
			t.Fatal("reading changed the input")
		}
	})
}

func depthOf(b []byte) (deepest int) {
	depth := 0
	for _, c := range b {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth--
		}
	}
	return deepest
}

func compare(t *testing.T, v Value, tree any) {
	t.Helper()
	switch want := tree.(type) {
	case nil:
		if v.Kind() != Null {
			t.Fatalf("%s is not null", v.Raw())
		}
	case bool:
		if got, ok := v.Bool(); got != want || !ok {
			t.Fatalf("%s is not %v", v.Raw(), want)
		}
	case string:
		got, ok := v.String()
		if got != want || !ok {
			t.Fatalf("%s: %q, want %q", v.Raw(), got, want)
		}
		var w Writer
		var back string
		if err := json.Unmarshal(w.String(got).Bytes(), &back); err != nil || back != want {
			t.Fatalf("written %s: %v", w.Bytes(), err)
		}
	case json.Number:
		if string(v.Raw()) != string(want) {
			t.Fatalf("%s, want %s", v.Raw(), want)
		}
		f, err := want.Float64()
		if got, ok := v.Float(); ok != (err == nil) || ok && got != f {
			t.Fatalf("%s: float %v", want, got)
		}
		n, err := want.Int64()
		if got, ok := v.Int(); ok != (err == nil) || ok && got != n {
			t.Fatalf("%s: int %v", want, got)
		}
	case []any:
		i := 0
		for e := range v.Elements() {
			compare(t, e, want[i])
			i++
		}
		if i != len(want) {
			t.Fatalf("%d elements, want %d", i, len(want))
		}
	case map[string]any:
		seen := make(map[string]bool)
		for name := range v.Fields() {
			seen[name] = true
		}
		if len(seen) != len(want) {
			t.Fatalf("%d names, want %d", len(seen), len(want))
		}
		for name, member := range want {
			compare(t, v.Get(name), member)
		}
	}
}
