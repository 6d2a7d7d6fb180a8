package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

func testScanRange(t *testing.T, open Open) {
	f := start(t, open)
	for _, name := range []string{"a", "a\x00", "b", "b\xff", "\xff", "\xff\xff"} {
		f.put(state(name), name)
	}
	f.put(store.Key{Kind: store.State + 1, Name: ""}, "the next kind")
	for range 2 {
		for _, c := range []struct {
			r    store.Range
			want []string
		}{
			{store.Range{}, []string{"a", "a\x00", "b", "b\xff", "\xff", "\xff\xff"}},
			{store.Range{From: "a\x00"}, []string{"a\x00", "b", "b\xff", "\xff", "\xff\xff"}},
			{store.Range{To: "b"}, []string{"a", "a\x00"}},
			{store.Range{From: "a\x00", To: "b\x00"}, []string{"a\x00", "b"}},
			{store.Range{From: "b", To: "b"}, nil},
			{store.Range{From: "c", To: "b"}, nil},
			{store.Prefix(store.State, "b"), []string{"b", "b\xff"}},
			{store.Prefix(store.State, "b\xff"), []string{"b\xff"}},
			{store.Prefix(store.State, "\xff"), []string{"\xff", "\xff\xff"}},
		} {
			c.r.Kind = store.State
			if got := names(f.found(c.r)); !slices.Equal(got, c.want) {
				t.Errorf("%q to %q: %q, want %q", c.r.From, c.r.To, got, c.want)
			}
		}
		f.reopen()
	}
}

// found returns what a range holds.
func (f *fixture) found(r store.Range) (keys []store.Found) {
	f.Helper()
	err := f.ScanRange(r, func(name string, _ []byte, rev store.Revision) bool {
		keys = append(keys, store.Found{Name: name, Revision: rev})
		return true
	})
	if err != nil {
		f.Fatalf("scanning %q to %q: %v", r.From, r.To, err)
	}
	return keys
}

func names(keys []store.Found) (list []string) {
	for _, k := range keys {
		list = append(list, k.Name)
	}
	return list
}

// testExpectRange changes a range that was read in every way.
func testExpectRange(t *testing.T, open Open) {
	r := store.Prefix(store.State, "r/")
	put := func(name string) *store.Batch {
		return &store.Batch{Puts: []store.Put{{Key: state(name), Value: []byte("x")}}}
	}
	for _, c := range []struct {
		name     string
		meantime *store.Batch // nil: the second key expires
		conflict bool
	}{
		{"nothing", &store.Batch{}, false},
		{"before it", put("r"), false},
		{"behind it", put("r0"), false},
		{"of another kind", &store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.Timer, Name: "r/a"}}}}, false},
		{"an absent key is deleted", &store.Batch{Deletes: []store.Key{state("r/none")}}, false},
		{"a key is born dead", &store.Batch{Puts: []store.Put{{Key: state("r/c"), Expires: time.Now().Add(-time.Second)}}}, false},
		{"written", put("r/a"), true},
		{"added at the front", put("r/"), true},
		{"added in between", put("r/aa"), true},
		{"added at the end", put("r/\xff"), true},
		{"deleted", &store.Batch{Deletes: []store.Key{state("r/b")}}, true},
		{"deleted and written again", &store.Batch{Puts: []store.Put{{Key: state("r/b")}}}, true},
		{"expired", nil, true},
	} {
		for _, durable := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, durable %v", c.name, durable), func(t *testing.T) {
				f := start(t, open)
				b := put("r/a")
				last := store.Put{Key: state("r/b")}
				if c.meantime == nil {
					last.Expires = time.Now().Add(300 * time.Millisecond)
				}
				b.Puts = append(b.Puts, last)
				f.commit(b)
				keys := f.found(r)
				if len(keys) != 2 {
					t.Fatalf("found %v", keys)
				}
				switch {
				case c.meantime == nil:
					f.eventually("expiry", func() bool { _, rev, _ := f.Get(state("r/b")); return rev == 0 })
				case durable:
					f.commit(c.meantime)
				default:
					if err := f.Commit(c.meantime, nil); err != nil {
						t.Fatal(err)
					}
				}
				err := f.Commit(&store.Batch{
					ExpectRanges: []store.ExpectRange{{Range: r, Keys: keys}},
					Puts:         []store.Put{{Key: state("outcome")}},
				}, nil)
				if c.conflict != errors.Is(err, store.ErrConflict) || !c.conflict && err != nil {
					t.Fatalf("error %v, conflict wanted: %v", err, c.conflict)
				}
				if _, rev, _ := f.Get(state("outcome")); (rev == 0) != c.conflict {
					t.Errorf("the batch was done: %v", rev != 0)
				}
			})
		}
	}
}

// testRangeCounter has committers that each add a key named after how many they
// found: no number is given twice.
func testRangeCounter(t *testing.T, open Open) {
	f := start(t, open)
	const committers, each = 8, 15
	r := store.Prefix(store.State, "n/")
	var wg sync.WaitGroup
	for range committers {
		wg.Go(func() {
			for done := 0; done < each; {
				keys := f.found(r)
				name := fmt.Sprintf("n/%05d", len(keys))
				err := f.Commit(&store.Batch{
					ExpectRanges: []store.ExpectRange{{Range: r, Keys: keys}},
					Puts:         []store.Put{{Key: state(name)}},
					Appends:      []store.Append{{Log: "l", Record: []byte(name)}},
				}, nil)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	f.reopen()
	records := f.records("l", 0, committers*each+1)
	if len(records) != committers*each || len(f.found(r)) != len(records) {
		t.Fatalf("%d records and %d keys, want %d", len(records), len(f.found(r)), committers*each)
	}
	for i, name := range records {
		if name != fmt.Sprintf("n/%05d", i) {
			t.Fatalf("record %d is %s", i, name)
		}
	}
}
