package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tributary.io/gateway/store"
)

// model is the store as the contract describes it, in memory.
type model struct {
	logs map[store.Log][]modelRecord
	keys map[store.Key]modelValue
	last map[store.Key]store.Revision // greatest revision ever seen
}

type modelRecord struct {
	time time.Time
	data string
}

type modelValue struct {
	value string
	rev   store.Revision // 0: not seen yet
}

var modelLogs = []store.Log{"e/a", "e/ab", "q/a", "e/a\x00"}

var modelKeys = []store.Key{
	{Kind: store.State, Name: "a"}, {Kind: store.State, Name: "a\x00"}, {Kind: store.State, Name: "ab"},
	{Kind: store.State, Name: "\xff"}, {Kind: store.Cursor, Name: "a"}, {Kind: store.Timer, Name: ""},
}

// testModel makes random calls on the store and on the model and compares.
func testModel(t *testing.T, open Open) {
	f := start(t, open)
	n, most := 0, 40
	if testing.Short() {
		most = 10
	}
	rapid.Check(t, func(rt *rapid.T) {
		if n++; n > most {
			return // a store is opened each time, which takes a while
		}
		if err := f.Store.Close(); err != nil {
			rt.Fatalf("close: %v", err)
		}
		f.dir = t.TempDir()
		f.Store = open(t, f.dir)
		m := &model{logs: map[store.Log][]modelRecord{}, keys: map[store.Key]modelValue{}, last: map[store.Key]store.Revision{}}
		rt.Repeat(map[string]func(*rapid.T){
			"":       func(rt *rapid.T) { m.checkKeys(rt, f) },
			"commit": func(rt *rapid.T) { m.commit(rt, f) },
			"read":   func(rt *rapid.T) { m.read(rt, f) },
			"at":     func(rt *rapid.T) { m.offsetAt(rt, f) },
			"scan":   func(rt *rapid.T) { m.scan(rt, f) },
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "really") == 0 {
					f.reopen()
				}
			},
		})
	})
}

func (m *model) commit(rt *rapid.T, f *fixture) {
	b := &store.Batch{}
	key := rapid.SampledFrom(modelKeys)
	for _, k := range rapid.SliceOfN(key, 0, 2).Draw(rt, "expect") {
		rev := m.keys[k].rev
		if rapid.IntRange(0, 5).Draw(rt, "wrong") == 0 {
			rev += store.Revision(rapid.IntRange(-1, 1).Draw(rt, "by"))
		}
		b.Expect = append(b.Expect, store.Expect{Key: k, Revision: rev})
	}
	for range rapid.IntRange(0, 3).Draw(rt, "appends") {
		b.Appends = append(b.Appends, store.Append{
			Log:    rapid.SampledFrom(modelLogs).Draw(rt, "log"),
			Record: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "record"),
			Time:   time.Unix(int64(rapid.IntRange(0, 100).Draw(rt, "time")), 0),
		})
	}
	expired := map[store.Key]bool{}
	touched := rapid.SliceOfNDistinct(key, 0, 4, rapid.ID).Draw(rt, "keys")
	for _, k := range touched {
		if rapid.Bool().Draw(rt, "delete") {
			b.Deletes = append(b.Deletes, k)
			continue
		}
		p := store.Put{Key: k, Value: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "value")}
		switch rapid.IntRange(0, 3).Draw(rt, "expires") {
		case 0:
			p.Expires, expired[k] = time.Now().Add(-time.Second), true
		case 1:
			p.Expires = time.Now().Add(time.Hour)
		}
		b.Puts = append(b.Puts, p)
	}
	conflict := slices.ContainsFunc(b.Expect, func(e store.Expect) bool { return m.keys[e.Key].rev != e.Revision })
	if rapid.IntRange(0, 2).Draw(rt, "range") == 0 {
		conflict = m.expectRange(rt, b) || conflict
	}
	durable := make(chan error, 1)
	err := f.Commit(b, func(err error) { durable <- err })
	if conflict != errors.Is(err, store.ErrConflict) || !conflict && err != nil {
		rt.Fatalf("commit: error %v, conflict expected: %v", err, conflict)
	}
	if conflict {
		return
	}
	if err := <-durable; err != nil {
		rt.Fatalf("done: %v", err)
	}
	for _, a := range b.Appends {
		if want := len(m.logs[a.Log]); a.Offset != uint64(want) {
			rt.Fatalf("offset %d, want %d", a.Offset, want)
		}
		m.logs[a.Log] = append(m.logs[a.Log], modelRecord{a.Time, string(a.Record)})
	}
	for _, k := range touched {
		delete(m.keys, k)
	}
	for _, p := range b.Puts {
		if !expired[p.Key] {
			m.keys[p.Key] = modelValue{value: string(p.Value)}
		}
	}
}

// expectRange adds a range to what the batch expects and says whether it is wrong.
func (m *model) expectRange(rt *rapid.T, b *store.Batch) (wrong bool) {
	bound := rapid.SampledFrom([]string{"", "a", "a\x00", "ab", "b", "\xff"})
	r := store.Range{Kind: store.State, From: bound.Draw(rt, "from"), To: bound.Draw(rt, "to")}
	x := store.ExpectRange{Range: r}
	for k, v := range m.keys {
		if k.Kind == r.Kind && r.Has(k.Name) {
			x.Keys = append(x.Keys, store.Found{Name: k.Name, Revision: v.rev})
		}
	}
	slices.SortFunc(x.Keys, func(a, b store.Found) int { return strings.Compare(a.Name, b.Name) })
	if len(x.Keys) > 0 && rapid.IntRange(0, 3).Draw(rt, "miss") == 0 {
		i := rapid.IntRange(0, len(x.Keys)-1).Draw(rt, "which")
		if wrong = true; rapid.Bool().Draw(rt, "revision") {
			x.Keys[i].Revision++
		} else {
			x.Keys = slices.Delete(x.Keys, i, i+1)
		}
	}
	b.ExpectRanges = append(b.ExpectRanges, x)
	return wrong
}

// checkKeys compares every key and learns the revisions of new writes.
func (m *model) checkKeys(rt *rapid.T, f *fixture) {
	for _, k := range modelKeys {
		v, rev, err := f.Get(k)
		if err != nil {
			rt.Fatalf("get: %v", err)
		}
		want, ok := m.keys[k]
		if !ok {
			if v != nil || rev != 0 {
				rt.Fatalf("key %q: %q at revision %d, want nothing", k.Name, v, rev)
			}
			continue
		}
		if string(v) != want.value || v == nil {
			rt.Fatalf("key %q: %q, want %q", k.Name, v, want.value)
		}
		if want.rev == 0 && rev <= m.last[k] {
			rt.Fatalf("key %q: revision %d of a new write after %d", k.Name, rev, m.last[k])
		}
		if want.rev != 0 && rev != want.rev {
			rt.Fatalf("key %q: revision %d, was %d", k.Name, rev, want.rev)
		}
		m.last[k], want.rev = rev, rev
		m.keys[k] = want
	}
	for _, l := range modelLogs {
		if first, next, err := f.Bounds(l); first != 0 || next != uint64(len(m.logs[l])) || err != nil {
			rt.Fatalf("bounds of %q: %d to %d, error %v; want 0 to %d", l, first, next, err, len(m.logs[l]))
		}
	}
}

func (m *model) read(rt *rapid.T, f *fixture) {
	l := rapid.SampledFrom(modelLogs).Draw(rt, "log")
	all := m.logs[l]
	from := rapid.IntRange(0, len(all)+1).Draw(rt, "from")
	limit := rapid.IntRange(0, len(all)+1).Draw(rt, "limit")
	want := all[min(from, len(all)):]
	want = want[:min(limit, len(want))]
	n := 0
	err := f.Read(l, uint64(from), limit, func(o uint64, at time.Time, r []byte) bool {
		if n >= len(want) || o != uint64(from+n) || !at.Equal(want[n].time) || string(r) != want[n].data {
			rt.Fatalf("read %d of %q from %d: offset %d, %v, %q", n, l, from, o, at, r)
		}
		n++
		return true
	})
	if err != nil || n != len(want) {
		rt.Fatalf("read of %q from %d: %d records, error %v; want %d", l, from, n, err, len(want))
	}
}

func (m *model) offsetAt(rt *rapid.T, f *fixture) {
	l := rapid.SampledFrom(modelLogs).Draw(rt, "log")
	at := time.Unix(int64(rapid.IntRange(-1, 101).Draw(rt, "at")), 0)
	want := slices.IndexFunc(m.logs[l], func(r modelRecord) bool { return !r.time.Before(at) })
	if want < 0 {
		want = len(m.logs[l])
	}
	if got, err := f.OffsetAt(l, at); got != uint64(want) || err != nil {
		rt.Fatalf("offset of %q at %v: %d, error %v; want %d", l, at, got, err, want)
	}
}

func (m *model) scan(rt *rapid.T, f *fixture) {
	kind := rapid.SampledFrom([]store.Kind{store.State, store.Cursor, store.Timer, store.Queue}).Draw(rt, "kind")
	prefix := rapid.SampledFrom([]string{"", "a", "a\x00", "\xff", "b"}).Draw(rt, "prefix")
	var want, got []string
	for k, v := range m.keys {
		if k.Kind == kind && strings.HasPrefix(k.Name, prefix) {
			want = append(want, fmt.Sprintf("%q=%q at %d", k.Name, v.value, v.rev))
		}
	}
	slices.Sort(want)
	err := f.Scan(kind, prefix, func(name string, value []byte, rev store.Revision) bool {
		got = append(got, fmt.Sprintf("%q=%q at %d", name, value, rev))
		return true
	})
	if sorted := slices.Sorted(slices.Values(got)); err != nil || !equal(sorted, want) {
		rt.Fatalf("scan of %c %q: %q, error %v; want %q", kind, prefix, got, err, want)
	}
}
