package storetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

func testRead(t *testing.T, open Open) {
	f := start(t, open)
	f.append("before", "x")
	f.append("l", "0", "1", "2", "3", "4")
	f.append("m", "y")
	f.reads("l", 0, 10, "0", "1", "2", "3", "4")
	f.reads("l", 0, 2, "0", "1")
	f.reads("l", 3, 10, "3", "4")
	f.reads("l", 4, 1, "4")
	f.reads("l", 5, 10)
	f.reads("l", 1<<63, 10)
	f.reads("l", 0, 0)
	f.reads("none", 0, 10)
	n := 0
	if err := f.Read("l", 1, 10, func(o uint64, _ time.Time, r []byte) bool {
		n++
		return string(r) != "2"
	}); err != nil || n != 2 {
		t.Fatalf("read went on to %d records, error %v; want 2", n, err)
	}
}

func testOffsetAt(t *testing.T, open Open) {
	f := start(t, open)
	base := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	at := func(l store.Log, seconds float64, want uint64) {
		t.Helper()
		got, err := f.OffsetAt(l, base.Add(time.Duration(seconds*float64(time.Second))))
		if err != nil || got != want {
			t.Errorf("offset of %q at %v s: %d, error %v; want %d", l, seconds, got, err, want)
		}
	}
	at("l", 0, 0)
	b := &store.Batch{}
	for i := range 1000 {
		b.Appends = append(b.Appends, store.Append{Log: "l", Time: base.Add(time.Duration(i/2) * time.Second)}) // two each second
	}
	f.commit(b)
	check := func() {
		t.Helper()
		at("l", -1, 0)
		at("l", 0, 0)
		at("l", 0.5, 2)
		at("l", 1, 2)
		at("l", 250, 500)
		at("l", 499, 998)
		at("l", 499.5, 1000)
		if got, err := f.OffsetAt("l", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)); got != 1000 || err != nil {
			t.Errorf("offset in the far future: %d, error %v", got, err)
		}
		if got, err := f.OffsetAt("l", time.Time{}); got != 0 || err != nil {
			t.Errorf("offset at the zero time: %d, error %v", got, err)
		}
	}
	check()
	f.reopen()
	check()
	// A clock that goes back hides no record behind a later one.
	f.commit(&store.Batch{Appends: []store.Append{{Log: "back", Time: base.Add(9 * time.Second)}, {Log: "back", Time: base},
		{Log: "back", Time: base.Add(10 * time.Second)}}})
	at("back", 5, 0)
	at("back", 9.5, 2)
}

func testWatch(t *testing.T, open Open) {
	f := start(t, open)
	var mu sync.Mutex
	var seen []uint64
	stop := f.Watch("l", func(next uint64) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, next)
		if _, now, err := f.Bounds("l"); now < next || err != nil {
			t.Errorf("told of %d but the log ends at %d, error %v", next, now, err)
		}
	})
	defer stop()
	f.append("other", "x")
	for i := range 50 {
		f.append("l", fmt.Sprint(i))
	}
	f.eventually("the last growth", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) > 0 && seen[len(seen)-1] == 50 })
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 50 { // each commit was awaited, so none share a group
		t.Errorf("%d calls for 50 growths", len(seen))
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] <= seen[i-1] {
			t.Fatalf("told of %d after %d", seen[i], seen[i-1])
		}
	}
}

func testWatchStop(t *testing.T, open Open) {
	f := start(t, open)
	var mu sync.Mutex
	calls := map[string]int{}
	watch := func(name string) func() {
		return f.Watch("l", func(uint64) { mu.Lock(); calls[name]++; mu.Unlock() })
	}
	stopA, stopB := watch("a"), watch("b")
	wait := func(name string, n int) {
		t.Helper()
		f.eventually("a call of "+name, func() bool { mu.Lock(); defer mu.Unlock(); return calls[name] == n })
	}
	f.append("l", "0")
	wait("a", 1)
	wait("b", 1)
	stopA()
	stopA()
	f.append("l", "1")
	wait("b", 2)
	stopB()
	f.append("l", "2")
	f.append("l", "3") // its watchers run after those of the one before
	if calls["a"] != 1 || calls["b"] != 2 {
		t.Errorf("calls after stop: %v", calls)
	}
}

// fill appends n records of 1000 bytes with times one second apart that end now.
func (f *fixture) fill(l store.Log, n int) {
	f.Helper()
	now := time.Now()
	b := &store.Batch{}
	_, next, err := f.Bounds(l)
	if err != nil {
		f.Fatal(err)
	}
	for i := range n {
		r := fmt.Sprintf("%d %s", next+uint64(i), strings.Repeat("x", 1000))
		b.Appends = append(b.Appends, store.Append{Log: l, Record: []byte(r[:1000]), Time: now.Add(time.Duration(i-n) * time.Second)})
	}
	f.commit(b)
}

func (f *fixture) numbered(l store.Log) (first uint64, n int) {
	f.Helper()
	first, next, err := f.Bounds(l)
	if err != nil {
		f.Fatal(err)
	}
	for i, r := range f.records(l, 0, 1<<30) {
		if want := fmt.Sprintf("%d ", first+uint64(i)); !strings.HasPrefix(r, want) {
			f.Fatalf("record %q at offset %d", r[:20], first+uint64(i))
		}
		n++
	}
	if uint64(n) != next-first {
		f.Fatalf("%d records between %d and %d", n, first, next)
	}
	return first, n
}

func testRetainBytes(t *testing.T, open Open) {
	f := start(t, open)
	f.fill("l", 500)
	f.fill("l\x00", 10)
	if err := f.Retain("l", 0, 100_500); err != nil {
		t.Fatal(err)
	}
	f.eventually("retention", func() bool { first, _, _ := f.Bounds("l"); return first > 0 })
	if first, n := f.numbered("l"); first != 400 || n != 100 {
		t.Fatalf("%d records from %d are left; want 100 from 400", n, first)
	}
	if _, n := f.numbered("l\x00"); n != 10 {
		t.Fatalf("another log has %d records left of 10", n)
	}
	f.fill("l", 400)
	f.eventually("retention of a grown log", func() bool { first, next, _ := f.Bounds("l"); return next-first <= 100+100/8 })
	f.reopen()
	first, n := f.numbered("l")
	if n > 100+100/8 || n < 50 || first != 900-uint64(n) {
		t.Fatalf("%d records from %d are left after a restart", n, first)
	}
	f.fill("l", 200) // not remembered over restarts
	if _, now := f.numbered("l"); now != n+200 {
		t.Fatalf("%d records are left, want %d", now, n+200)
	}
}

func testRetainAge(t *testing.T, open Open) {
	f := start(t, open)
	f.fill("l", 3600) // an hour
	if err := f.Retain("l", 10*time.Minute, 0); err != nil {
		t.Fatal(err)
	}
	f.eventually("retention", func() bool { first, _, _ := f.Bounds("l"); return first > 0 })
	first, n := f.numbered("l")
	if first < 3000 || n < 500 {
		t.Fatalf("%d records from %d are left; want about 600 from 3000", n, first)
	}
	if at, err := f.OffsetAt("l", time.Now().Add(-time.Hour)); at < 3000 || err != nil {
		t.Fatalf("offset at a time that is gone: %d, error %v", at, err)
	}
	f.reads("l", 0, 1, f.records("l", first, 1)[0])
}

// testRetainEverything removes all: offsets go on where they were.
func testRetainEverything(t *testing.T, open Open) {
	f := start(t, open)
	f.fill("l", 100)
	if err := f.Retain("l", 0, 1); err != nil {
		t.Fatal(err)
	}
	f.eventually("retention", func() bool { first, next, _ := f.Bounds("l"); return first == next })
	f.bounds("l", 100, 100)
	f.reads("l", 0, 10)
	if at, err := f.OffsetAt("l", time.Time{}); at != 100 || err != nil {
		t.Fatalf("offset in an empty log: %d, error %v", at, err)
	}
	f.append("marker", "x") // the removal is durable before it
	f.reopen()
	f.bounds("l", 100, 100)
	f.append("l", "100 ")
	f.reopen()
	f.bounds("l", 100, 101)
	if first, n := f.numbered("l"); first != 100 || n != 1 {
		t.Fatalf("%d records from %d", n, first)
	}
}

// testRetainWhileReading reads and cuts at once: a reader meets no gap.
func testRetainWhileReading(t *testing.T, open Open) {
	f := start(t, open)
	f.fill("l", 100)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				last := uint64(0)
				err := f.Read("l", 0, 50, func(o uint64, _ time.Time, r []byte) bool {
					if last != 0 && o != last+1 {
						t.Errorf("offset %d after %d", o, last)
					}
					if !strings.HasPrefix(string(r), fmt.Sprintf("%d ", o)) {
						t.Errorf("record %.10q at offset %d", r, o)
					}
					last = o
					return true
				})
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				if _, err := f.OffsetAt("l", time.Now().Add(-10*time.Second)); err != nil {
					t.Errorf("OffsetAt: %v", err)
					return
				}
			}
		})
	}
	for range 30 {
		before, _, _ := f.Bounds("l") // it may be cut as soon as it grew
		f.fill("l", 50)
		if err := f.Retain("l", 0, 20_000); err != nil {
			t.Fatal(err)
		}
		f.eventually("retention", func() bool { first, _, _ := f.Bounds("l"); return first > before })
	}
	f.numbered("l")
}

func testBig(t *testing.T, open Open) {
	f := start(t, open)
	sizes := []int{1 << 20, 3, 5 << 20, 1}
	if !testing.Short() {
		sizes = append(sizes, 17<<20, 2)
	}
	for i, n := range sizes {
		r := strings.Repeat(string(rune('a'+i)), n)
		f.commit(&store.Batch{
			Appends: []store.Append{{Log: "l", Record: []byte(r)}},
			Puts:    []store.Put{{Key: state(fmt.Sprint(i)), Value: []byte(r)}},
		})
	}
	check := func() {
		t.Helper()
		got := f.records("l", 0, 100)
		for i, n := range sizes {
			want := strings.Repeat(string(rune('a'+i)), n)
			if got[i] != want {
				t.Fatalf("record %d of %d bytes differs", i, n)
			}
			f.has(state(fmt.Sprint(i)), want)
		}
	}
	check()
	f.reopen()
	check()
}
