// Package storetest is the one suite that every store passes. A store's own
// test calls Test; the suite imports package store and knows no implementation.
package storetest

import (
	"os"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

// Open opens the store that is kept in dir and fails the test when it cannot.
type Open func(t testing.TB, dir string) store.Store

// Test runs the suite. It executes the test binary again for the kill test, so
// that the test that calls it must do nothing else before.
func Test(t *testing.T, open Open) {
	if dir := os.Getenv(childDir); dir != "" {
		runChild(t, open, dir)
		return
	}
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Open)
	}{
		{"Append", testAppend},
		{"KeepsNoReference", testKeepsNoReference},
		{"Times", testTimes},
		{"Conflict", testConflict},
		{"Visible", testVisible},
		{"Revisions", testRevisions},
		{"Expiry", testExpiry},
		{"ExpirySoon", testExpirySoon},
		{"Scan", testScan},
		{"ScanRange", testScanRange},
		{"ExpectRange", testExpectRange},
		{"RangeCounter", testRangeCounter},
		{"Names", testNames},
		{"Empty", testEmpty},
		{"Invalid", testInvalid},
		{"Read", testRead},
		{"OffsetAt", testOffsetAt},
		{"Watch", testWatch},
		{"WatchStop", testWatchStop},
		{"RetainBytes", testRetainBytes},
		{"RetainAge", testRetainAge},
		{"RetainEverything", testRetainEverything},
		{"RetainWhileReading", testRetainWhileReading},
		{"Big", testBig},
		{"DoneOrder", testDoneOrder},
		{"CommitFromDone", testCommitFromDone},
		{"Counter", testCounter},
		{"Close", testClose},
		{"Reopen", testReopen},
		{"Model", testModel},
		{"Kill", testKill},
		{"DiskFull", testDiskFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open)
		})
	}
}

// fixture is a store under test that can be reopened.
type fixture struct {
	testing.TB
	store.Store
	open Open
	dir  string
}

func start(t testing.TB, open Open) *fixture {
	f := &fixture{TB: t, open: open, dir: t.TempDir()}
	f.Store = open(t, f.dir)
	t.Cleanup(func() {
		if err := f.Store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

func (f *fixture) reopen() {
	f.Helper()
	if err := f.Store.Close(); err != nil {
		f.Fatalf("close: %v", err)
	}
	f.Store = f.open(f, f.dir)
}

// commit commits and waits until the batch is durable.
func (f *fixture) commit(b *store.Batch) {
	f.Helper()
	if err := commit(f.Store, b); err != nil {
		f.Fatalf("commit: %v", err)
	}
}

func commit(s store.Store, b *store.Batch) error {
	durable := make(chan error, 1)
	if err := s.Commit(b, func(err error) { durable <- err }); err != nil {
		return err
	}
	return <-durable
}

func (f *fixture) append(l store.Log, records ...string) {
	f.Helper()
	b := &store.Batch{}
	for _, r := range records {
		b.Appends = append(b.Appends, store.Append{Log: l, Record: []byte(r), Time: time.Now()})
	}
	f.commit(b)
}

func (f *fixture) put(k store.Key, v string) store.Revision {
	f.Helper()
	f.commit(&store.Batch{Puts: []store.Put{{Key: k, Value: []byte(v)}}})
	return f.has(k, v)
}

// has checks a key's value and returns its revision.
func (f *fixture) has(k store.Key, want string) store.Revision {
	f.Helper()
	v, rev, err := f.Get(k)
	if err != nil || rev == 0 || string(v) != want {
		f.Fatalf("get %q: value %q, revision %d, error %v; want value %q", k.Name, v, rev, err, want)
	}
	return rev
}

func (f *fixture) absent(k store.Key) {
	f.Helper()
	if v, rev, err := f.Get(k); v != nil || rev != 0 || err != nil {
		f.Fatalf("get %q: value %q, revision %d, error %v; want nothing", k.Name, v, rev, err)
	}
}

func (f *fixture) bounds(l store.Log, first, next uint64) {
	f.Helper()
	if a, b, err := f.Bounds(l); a != first || b != next || err != nil {
		f.Fatalf("bounds of %q: %d to %d, error %v; want %d to %d", l, a, b, err, first, next)
	}
}

// records reads a log and checks that its offsets have no gap.
func (f *fixture) records(l store.Log, from uint64, limit int) []string {
	f.Helper()
	var got []string
	var last uint64
	err := f.Read(l, from, limit, func(offset uint64, _ time.Time, r []byte) bool {
		if len(got) > 0 && offset != last+1 {
			f.Errorf("read of %q: offset %d after %d", l, offset, last)
		}
		last = offset
		got = append(got, string(r))
		return true
	})
	if err != nil {
		f.Fatalf("read of %q: %v", l, err)
	}
	return got
}

func (f *fixture) reads(l store.Log, from uint64, limit int, want ...string) {
	f.Helper()
	if got := f.records(l, from, limit); !equal(got, want) {
		f.Fatalf("read of %q from %d: %.200q; want %.200q", l, from, got, want)
	}
}

func (f *fixture) scans(k store.Kind, prefix string, want ...string) {
	f.Helper()
	var got []string
	err := f.Scan(k, prefix, func(name string, value []byte, rev store.Revision) bool {
		if rev == 0 {
			f.Errorf("scan: %q has revision 0", name)
		}
		got = append(got, name+"="+string(value))
		return true
	})
	if err != nil {
		f.Fatalf("scan: %v", err)
	}
	if !equal(got, want) {
		f.Fatalf("scan of %c %q: %q; want %q", k, prefix, got, want)
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// eventually waits for what the store does in its own time.
func (f *fixture) eventually(what string, ok func() bool) {
	f.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("%s did not happen in 30 s", what)
		}
	}
}

func state(name string) store.Key { return store.Key{Kind: store.State, Name: name} }

func testAppend(t *testing.T, open Open) {
	f := start(t, open)
	a, b := store.Events("a"), store.Quarantine("a")
	f.bounds(a, 0, 0)
	f.reads(a, 0, 10)
	batch := &store.Batch{Appends: []store.Append{
		{Log: a, Record: []byte("a0")}, {Log: b, Record: []byte("b0")}, {Log: a, Record: []byte("a1")}, {Log: a, Record: nil}}}
	f.commit(batch)
	for i, want := range []uint64{0, 0, 1, 2} {
		if got := batch.Appends[i].Offset; got != want {
			t.Errorf("offset of append %d: %d, want %d", i, got, want)
		}
	}
	f.bounds(a, 0, 3)
	f.reads(a, 0, 10, "a0", "a1", "")
	f.reads(b, 0, 10, "b0")
	f.reopen()
	f.bounds(a, 0, 3)
	f.append(a, "a3")
	f.reads(a, 0, 10, "a0", "a1", "", "a3")
	f.reads(b, 0, 10, "b0")
}

func testKeepsNoReference(t *testing.T, open Open) {
	f := start(t, open)
	record, value := []byte("record"), []byte("value")
	durable := make(chan error, 1)
	err := f.Commit(&store.Batch{
		Appends: []store.Append{{Log: "l", Record: record}},
		Puts:    []store.Put{{Key: state("k"), Value: value}},
	}, func(err error) { durable <- err })
	copy(record, "xxxxxx")
	copy(value, "xxxxx")
	if err != nil {
		t.Fatal(err)
	}
	f.has(state("k"), "value")
	got, _, _ := f.Get(state("k"))
	copy(got, "yyyyy")
	if err := <-durable; err != nil {
		t.Fatal(err)
	}
	f.has(state("k"), "value")
	f.reads("l", 0, 1, "record")
}

func testTimes(t *testing.T, open Open) {
	f := start(t, open)
	times := []time.Time{
		time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC),
		time.Date(2026, 11, 21, 12, 0, 0, 0, time.FixedZone("", 3600)), // before the first
		time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	b := &store.Batch{}
	for _, at := range times {
		b.Appends = append(b.Appends, store.Append{Log: "l", Time: at})
	}
	f.commit(b)
	err := f.Read("l", 0, 10, func(o uint64, at time.Time, _ []byte) bool {
		if !at.Equal(times[o]) {
			t.Errorf("time of record %d: %v, want %v", o, at, times[o])
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testEmpty(t *testing.T, open Open) {
	f := start(t, open)
	f.commit(&store.Batch{})
	var order []int
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		b := &store.Batch{}
		if i%2 == 0 {
			b.Appends = []store.Append{{Log: "l", Record: []byte("r")}}
		}
		if err := f.Commit(b, func(err error) { order = append(order, i); wg.Done() }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for i := range order {
		if order[i] != i {
			t.Fatalf("done in the order %v", order)
		}
	}
	if err := f.Commit(&store.Batch{}, nil); err != nil {
		t.Fatal(err)
	}
	f.bounds("l", 0, 10)
}

// testInvalid gives what no store can keep: an error, and nothing is done.
func testInvalid(t *testing.T, open Open) {
	f := start(t, open)
	err := f.Commit(&store.Batch{
		Appends: []store.Append{{Log: "l", Record: []byte("r")}, {Log: "", Record: []byte("r")}},
	}, func(error) { t.Error("done was called") })
	if err == nil {
		t.Error("a log without a name was accepted")
	}
	if err := f.Retain("l", -time.Second, 0); err == nil {
		t.Error("a negative age was accepted")
	}
	if err := f.Retain("l", 0, -1); err == nil {
		t.Error("a negative size was accepted")
	}
	f.append("l", "first")
	f.reads("l", 0, 10, "first")
}
