package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// node describes one key of the configuration: which keys it holds, or which
// value it takes. The tree is made from the koanf tags of Config.
type node struct {
	kind   nodeKind
	typ    reflect.Type     // leaf: the type of the value
	fields map[string]*node // table: by key
	elem   *node            // named, list: what each entry is
}

type nodeKind int

const (
	leaf  nodeKind = iota // a value
	table                 // a table with fixed keys
	named                 // a table whose keys the user names
	list                  // an array of tables
)

var durationType = reflect.TypeFor[time.Duration]()

// schema describes Config.
func schema() *node { return newSchema(reflect.TypeFor[Config]()) }

// newSchema describes a type. Every exported field of a struct needs a koanf
// tag: a name, "-", or ",squash" for a struct whose keys stand beside its own.
func newSchema(t reflect.Type) *node {
	switch {
	case t.Kind() == reflect.Struct:
		n := &node{kind: table, fields: map[string]*node{}}
		for f := range fieldsOf(t) {
			child := newSchema(f.Type)
			if f.squash {
				for key, c := range child.fields {
					n.fields[key] = c
				}
			} else {
				n.fields[f.key] = child
			}
		}
		return n
	case t.Kind() == reflect.Map:
		return &node{kind: named, elem: newSchema(t.Elem())}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return &node{kind: list, elem: newSchema(t.Elem())}
	}
	return &node{kind: leaf, typ: t}
}

// field is a struct field that is a key, or whose keys are.
type field struct {
	reflect.StructField
	key    string
	squash bool
}

// fieldsOf yields the fields of a struct that are settings.
func fieldsOf(t reflect.Type) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for i := range t.NumField() {
			name, option, _ := strings.Cut(t.Field(i).Tag.Get("koanf"), ",")
			if name == "-" || !t.Field(i).IsExported() {
				continue
			}
			if !yield(field{t.Field(i), name, option == "squash"}) {
				return
			}
		}
	}
}

// toMap writes a configuration as nested maps by key, as koanf merges them.
// Maps and lists without entries are left out.
func toMap(v reflect.Value) map[string]any {
	m := map[string]any{}
	for f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.Index)
		switch kind := value.Kind(); {
		case f.squash:
			for key, inner := range toMap(value) {
				m[key] = inner
			}
		case kind == reflect.Struct:
			m[f.key] = toMap(value)
		case kind == reflect.Map && value.Type().Elem().Kind() == reflect.Struct && value.Len() > 0:
			entries := map[string]any{}
			for name, entry := range value.Seq2() {
				entries[name.String()] = toMap(entry)
			}
			m[f.key] = entries
		case (kind == reflect.Map || kind == reflect.Slice) && value.Len() == 0:
		default:
			m[f.key] = value.Interface()
		}
	}
	return m
}

// child returns the node of a key below n, nil when there can be none.
func (n *node) child(key string) *node {
	if n.kind == table {
		return n.fields[key]
	}
	return n.elem // nil below a value
}

// find returns the node at a path as join writes it, nil when there is none.
func (n *node) find(path string) *node {
	parts, rest := splitKey(path)
	if rest != "" {
		return nil
	}
	for _, part := range parts {
		name, _, index := strings.Cut(part, "[")
		if at := n.child(name); index && at != nil && at.kind == list {
			n = at.elem
		} else {
			n = n.child(part) // a name may have a bracket
		}
		if n == nil {
			return nil
		}
	}
	return n
}

// leaves calls fn with the path of every value below n; names that users choose
// and positions in lists are "*".
func (n *node) leaves(path string, fn func(path string, n *node)) {
	switch n.kind {
	case leaf:
		fn(path, n)
	case table:
		for _, key := range n.keys() {
			n.fields[key].leaves(join(path, key), fn)
		}
	default:
		n.elem.leaves(path+".*", fn)
	}
}

// keys returns the keys of a table in order.
func (n *node) keys() []string {
	var keys []string
	for key := range n.fields {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// suggest names what an unknown key may have been meant to be: a key of the
// same table that is spelt nearly alike, or one of the same name elsewhere.
func (n *node) suggest(root *node, path, key string) string {
	if near := nearest(key, n.keys()); near != "" {
		return "; did you mean " + join(path, near) + "?"
	}
	var same []string
	root.leaves("", func(p string, _ *node) {
		if p == key || strings.HasSuffix(p, "."+key) {
			same = append(same, p)
		}
	})
	if len(same) > 0 && len(same) <= 3 {
		return "; did you mean " + strings.Join(same, " or ") + "?"
	}
	if len(n.fields) > 0 && len(n.fields) <= 14 {
		return "; the keys here are " + strings.Join(n.keys(), ", ")
	}
	return ""
}

func didYouMean(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// longestKey is more than any key has, with those above it.
const longestKey = 256

// nearest returns the candidate that is spelt most alike, or "" when none is
// within a third of the word's letters.
func nearest(word string, candidates []string) string {
	best, least := "", max(1, len(word)/3)+1
	if len(word) > longestKey {
		return "" // comparing takes its length times theirs
	}
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap with a
// neighbour to turn a into b.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
