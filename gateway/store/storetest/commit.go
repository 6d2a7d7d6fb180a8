package storetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

// testDoneOrder has many committers: done is called in the order of offsets,
// each when its record can be read.
func testDoneOrder(t *testing.T, open Open) {
	f := start(t, open)
	const committers, each = 16, 200
	var wg sync.WaitGroup
	next := uint64(0) // only done touches it
	for c := range committers {
		wg.Go(func() {
			for i := range each {
				b := &store.Batch{Appends: []store.Append{{Log: "l", Record: fmt.Appendf(nil, "%d/%d", c, i)}}}
				wg.Add(1)
				err := f.Commit(b, func(err error) {
					defer wg.Done()
					if err != nil || b.Appends[0].Offset != next {
						t.Errorf("done of offset %d, error %v; want offset %d", b.Appends[0].Offset, err, next)
					}
					next++
					if _, durable, _ := f.Bounds("l"); durable < next {
						t.Errorf("offset %d is done but the log ends at %d", next-1, durable)
					}
				})
				if err != nil {
					t.Error(err)
					wg.Done()
				}
			}
		})
	}
	wg.Wait()
	var seen [committers]int
	for _, r := range f.records("l", 0, committers*each) {
		var c, i int
		if _, err := fmt.Sscanf(r, "%d/%d", &c, &i); err != nil || i != seen[c] {
			t.Fatalf("committer %d: record %d where %d belongs, error %v", c, i, seen[c], err)
		}
		seen[c]++
	}
}

// testCommitFromDone commits from callbacks while others keep the store full.
func testCommitFromDone(t *testing.T, open Open) {
	f := start(t, open)
	record := make([]byte, 32<<10)
	const committers, chains = 4, 100
	var wg sync.WaitGroup
	for range committers {
		wg.Go(func() {
			for range chains {
				wg.Add(1)
				left := 3
				var again func(error)
				again = func(err error) {
					if err != nil {
						t.Errorf("done: %v", err)
					}
					if left--; left == 0 || err != nil {
						wg.Done()
						return
					}
					if err := f.Commit(&store.Batch{Appends: []store.Append{{Log: "l", Record: record}}}, again); err != nil {
						t.Errorf("commit from done: %v", err)
						wg.Done()
					}
				}
				if err := f.Commit(&store.Batch{Appends: []store.Append{{Log: "l", Record: record}}}, again); err != nil {
					t.Errorf("commit: %v", err)
					wg.Done()
				}
			}
		})
	}
	wg.Wait()
	f.bounds("l", 0, committers*chains*3)
}

// testCounter has committers that increment one key by compare-and-set and
// append the number in the same commit: none is lost, none is double.
func testCounter(t *testing.T, open Open) {
	f := start(t, open)
	const committers, each = 8, 100
	var wg sync.WaitGroup
	for range committers {
		wg.Go(func() {
			for range each {
				for {
					v, rev, err := f.Get(state("counter"))
					if err != nil {
						t.Error(err)
						return
					}
					var n uint64
					if rev != 0 {
						n = binary.BigEndian.Uint64(v)
					}
					b := binary.BigEndian.AppendUint64(nil, n+1)
					err = f.Commit(&store.Batch{
						Expect:  []store.Expect{{Key: state("counter"), Revision: rev}},
						Puts:    []store.Put{{Key: state("counter"), Value: b}},
						Appends: []store.Append{{Log: "l", Record: b}},
					}, nil)
					if errors.Is(err, store.ErrConflict) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					break
				}
			}
		})
	}
	wg.Wait()
	f.reopen()
	got := f.records("l", 0, committers*each+1)
	if len(got) != committers*each {
		t.Fatalf("%d records, want %d", len(got), committers*each)
	}
	for i, r := range got {
		if n := binary.BigEndian.Uint64([]byte(r)); n != uint64(i)+1 {
			t.Fatalf("record %d holds %d", i, n)
		}
	}
	f.has(state("counter"), got[len(got)-1])
}

func testClose(t *testing.T, open Open) {
	f := start(t, open)
	var mu sync.Mutex
	var errs []error
	const n = 500
	for i := range n {
		err := f.Commit(&store.Batch{Appends: []store.Append{{Log: "l", Record: fmt.Append(nil, i)}}}, func(err error) {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if len(errs) != n {
		t.Fatalf("close returned after %d callbacks of %d", len(errs), n)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("done: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := f.Commit(&store.Batch{}, func(error) { t.Error("done was called") }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("commit: error %v, want ErrClosed", err)
	}
	_, _, getErr := f.Get(state("k"))
	_, _, boundsErr := f.Bounds("l")
	_, atErr := f.OffsetAt("l", time.Now())
	for what, err := range map[string]error{
		"get": getErr, "bounds": boundsErr, "offset at": atErr,
		"scan": f.Scan(store.State, "", nil),
		"read": f.Read("l", 0, 1, nil),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: error %v, want ErrClosed", what, err)
		}
	}
	f.Store = open(t, f.dir)
	if got := f.records("l", 0, n+1); len(got) != n {
		t.Fatalf("%d records are left of %d", len(got), n)
	}
}

// testReopen restarts often with few commits in between.
func testReopen(t *testing.T, open Open) {
	f := start(t, open)
	for i := range 8 {
		for range i {
			f.fill("l", 10)
		}
		f.put(state("k"), fmt.Sprint(i))
		before, n := f.numbered("l")
		f.reopen()
		f.has(state("k"), fmt.Sprint(i))
		if first, now := f.numbered("l"); first != before || now != n {
			t.Fatalf("restart %d: %d records from %d, were %d from %d", i, now, first, n, before)
		}
	}
}
