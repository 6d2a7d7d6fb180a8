package registry

import (
	"maps"
	"slices"
	"sync/atomic"
)

// table is a map that is read without a lock while one goroutine at a time
// changes it. It is divided into parts that are copied when they change, so that
// a change in a table of 100,000 entries copies some hundred.
type table[V any] struct {
	parts [tableParts]atomic.Pointer[map[string]V]
	count atomic.Int64
	epoch atomic.Uint64         // how often a name came or went
	names atomic.Pointer[index] // made when it is first asked for
	// private says that no reader has the table yet, so that nothing needs to be copied.
	private bool
}

// index is the names of a table in order, as they were in an epoch.
type index struct {
	epoch uint64
	names []string
}

const tableParts = 256

// part returns the part that a name is in, by its FNV-1a hash.
func (t *table[V]) part(name string) *atomic.Pointer[map[string]V] {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return &t.parts[(h^h>>8^h>>16)%tableParts]
}

func (t *table[V]) get(name string) (v V, ok bool) {
	if m := t.part(name).Load(); m != nil {
		v, ok = (*m)[name]
	}
	return v, ok
}

// set changes an entry, or adds it.
func (t *table[V]) set(name string, v V) {
	t.change(name, func(m map[string]V) { m[name] = v })
}

func (t *table[V]) remove(name string) {
	t.change(name, func(m map[string]V) { delete(m, name) })
}

func (t *table[V]) change(name string, do func(map[string]V)) {
	part := t.part(name)
	m := map[string]V{}
	if old := part.Load(); old != nil {
		m = *old
		if !t.private {
			m = maps.Clone(m)
		}
	}
	before := len(m)
	do(m)
	part.Store(&m)
	if len(m) != before {
		t.count.Add(int64(len(m) - before))
		t.epoch.Add(1)
	}
}

func (t *table[V]) len() int { return int(t.count.Load()) }

// sorted returns all names in order. It must not be changed.
func (t *table[V]) sorted() []string {
	epoch := t.epoch.Load()
	if ix := t.names.Load(); ix != nil && ix.epoch == epoch {
		return ix.names
	}
	names := make([]string, 0, t.len())
	for i := range t.parts {
		if m := t.parts[i].Load(); m != nil {
			names = slices.AppendSeq(names, maps.Keys(*m))
		}
	}
	slices.Sort(names)
	t.names.Store(&index{epoch, names})
	return names
}

// page calls fn for the entries behind a name, in order of names, until fn
// returns false.
func (t *table[V]) page(after string, fn func(V) bool) {
	names := t.sorted()
	at, found := slices.BinarySearch(names, after)
	if found {
		at++
	}
	for _, name := range names[at:] {
		if v, ok := t.get(name); ok && !fn(v) { // it may have gone since
			return
		}
	}
}
