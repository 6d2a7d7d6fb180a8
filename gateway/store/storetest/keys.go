package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

func testConflict(t *testing.T, open Open) {
	f := start(t, open)
	rev := f.put(state("k"), "1")
	f.append("l", "r0")
	for _, c := range []struct {
		name   string
		expect []store.Expect
	}{
		{"present, expected absent", []store.Expect{{Key: state("k")}}},
		{"absent, expected present", []store.Expect{{Key: state("none"), Revision: rev}}},
		{"too old", []store.Expect{{Key: state("k"), Revision: rev - 1}}},
		{"too new", []store.Expect{{Key: state("k"), Revision: rev + 1}}},
		{"other kind", []store.Expect{{Key: store.Key{Kind: store.Cursor, Name: "k"}, Revision: rev}}},
		{"one of two", []store.Expect{{Key: state("k"), Revision: rev}, {Key: state("none"), Revision: 7}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := f.Commit(&store.Batch{
				Expect:  c.expect,
				Appends: []store.Append{{Log: "l", Record: []byte("never")}},
				Puts:    []store.Put{{Key: state("never")}, {Key: state("k"), Value: []byte("never")}},
			}, func(error) { t.Error("done was called") })
			if !errors.Is(err, store.ErrConflict) {
				t.Fatalf("error %v, want ErrConflict", err)
			}
			f.absent(state("never"))
			f.has(state("k"), "1")
		})
	}
	f.commit(&store.Batch{
		Expect:  []store.Expect{{Key: state("k"), Revision: rev}, {Key: state("none")}},
		Deletes: []store.Key{state("k")},
	})
	f.absent(state("k"))
	f.commit(&store.Batch{Expect: []store.Expect{{Key: state("k")}}, Appends: []store.Append{{Log: "l", Record: []byte("r1")}}})
	f.reads("l", 0, 10, "r0", "r1")
}

// testVisible makes many commits without waiting: each is seen at once.
func testVisible(t *testing.T, open Open) {
	f := start(t, open)
	var wg sync.WaitGroup
	done := func(err error) {
		if err != nil {
			t.Errorf("done: %v", err)
		}
		wg.Done()
	}
	var rev store.Revision
	for i := range 2000 {
		wg.Add(1)
		v := fmt.Sprint(i)
		err := f.Commit(&store.Batch{
			Expect: []store.Expect{{Key: state("k"), Revision: rev}},
			Puts:   []store.Put{{Key: state("k"), Value: []byte(v)}, {Key: state("other" + v)}},
		}, done)
		if err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
		now := f.has(state("k"), v)
		if now <= rev {
			t.Fatalf("revision %d after %d", now, rev)
		}
		rev = now
		if i%100 == 0 {
			f.scans(store.State, "k", "k="+v)
		}
		wg.Add(1)
		if err := f.Commit(&store.Batch{Deletes: []store.Key{state("other" + v)}}, done); err != nil {
			t.Fatal(err)
		}
		f.absent(state("other" + v))
	}
	wg.Wait()
	f.scans(store.State, "", "k=1999")
}

func testRevisions(t *testing.T, open Open) {
	f := start(t, open)
	k := state("k")
	last := f.put(k, "0")
	step := func(what string) {
		t.Helper()
		now := f.put(k, what)
		if now <= last {
			t.Fatalf("%s: revision %d after %d", what, now, last)
		}
		last = now
	}
	step("again")
	f.commit(&store.Batch{Deletes: []store.Key{k}})
	f.absent(k)
	step("after a delete")
	f.commit(&store.Batch{Deletes: []store.Key{k}})
	f.reopen()
	step("after a delete and a restart")
	f.reopen()
	if got := f.has(k, "after a delete and a restart"); got != last {
		t.Fatalf("revision %d after a restart, was %d", got, last)
	}
	f.commit(&store.Batch{Puts: []store.Put{{Key: k, Expires: time.Now().Add(-time.Second)}}})
	f.reopen()
	step("after expiry and a restart")
	f.commit(&store.Batch{})
	f.reopen()
	step("after an empty commit and a restart")
}

func testExpiry(t *testing.T, open Open) {
	f := start(t, open)
	now := time.Now()
	f.commit(&store.Batch{Puts: []store.Put{
		{Key: state("past"), Value: []byte("v"), Expires: now.Add(-time.Nanosecond)},
		{Key: state("long past"), Value: []byte("v"), Expires: time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Key: state("never"), Value: []byte("v")},
		{Key: state("future"), Value: []byte("v"), Expires: now.Add(time.Hour)},
		{Key: state("far future"), Value: []byte("v"), Expires: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
	}})
	check := func() {
		t.Helper()
		f.absent(state("past"))
		f.absent(state("long past"))
		f.has(state("never"), "v")
		f.has(state("future"), "v")
		f.has(state("far future"), "v")
		f.scans(store.State, "", "far future=v", "future=v", "never=v")
	}
	check()
	f.reopen()
	check()
	f.commit(&store.Batch{Expect: []store.Expect{{Key: state("past")}}, Puts: []store.Put{{Key: state("past"), Value: []byte("again")}}})
	f.has(state("past"), "again")
	f.commit(&store.Batch{Puts: []store.Put{{Key: state("future"), Value: []byte("kept")}}})
	f.has(state("future"), "kept")
}

// testExpirySoon lets keys expire, some of which are written again before.
func testExpirySoon(t *testing.T, open Open) {
	f := start(t, open)
	b := &store.Batch{}
	at := time.Now().Add(200 * time.Millisecond)
	for i := range 200 {
		b.Puts = append(b.Puts, store.Put{Key: state(fmt.Sprintf("k%03d", i)), Value: []byte("v"), Expires: at})
	}
	f.commit(b)
	f.commit(&store.Batch{Puts: []store.Put{{Key: state("k000"), Value: []byte("stays")},
		{Key: state("k001"), Value: []byte("later"), Expires: time.Now().Add(time.Hour)}}})
	f.eventually("expiry", func() bool { _, rev, _ := f.Get(state("k199")); return rev == 0 })
	f.scans(store.State, "", "k000=stays", "k001=later")
	f.reopen()
	f.scans(store.State, "", "k000=stays", "k001=later")
}

func testScan(t *testing.T, open Open) {
	f := start(t, open)
	f.commit(&store.Batch{Puts: []store.Put{
		{Key: state("b"), Value: []byte("2")}, {Key: state("a"), Value: []byte("1")}, {Key: state("ab"), Value: []byte("3")},
		{Key: store.Key{Kind: store.Cursor, Name: "a"}, Value: []byte("cursor")}, {Key: state("d")},
	}})
	f.scans(store.State, "", "a=1", "ab=3", "b=2", "d=")
	f.scans(store.State, "a", "a=1", "ab=3")
	f.scans(store.State, "ab", "ab=3")
	f.scans(store.State, "c")
	f.scans(store.Cursor, "", "a=cursor")
	f.scans(store.Timer, "")

	// Not waiting for it to be durable: over, under and between what is.
	if err := f.Commit(&store.Batch{
		Puts: []store.Put{{Key: state("a"), Value: []byte("new")}, {Key: state("c"), Value: []byte("4")},
			{Key: state("z"), Value: []byte("5")}},
		Deletes: []store.Key{state("ab"), state("d"), state("none")},
	}, nil); err != nil {
		t.Fatal(err)
	}
	f.scans(store.State, "", "a=new", "b=2", "c=4", "z=5")
	n := 0
	if err := f.Scan(store.State, "", func(string, []byte, store.Revision) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Fatalf("scan stopped after %d keys, error %v; want 2", n, err)
	}
	f.reopen()
	f.scans(store.State, "", "a=new", "b=2", "c=4", "z=5")
}

// testNames uses names that are prefixes of each other and hold any byte.
func testNames(t *testing.T, open Open) {
	f := start(t, open)
	names := []string{"a", "a\x00", "a\x00\x00", "a\x00\x01", "a\xff", "a\xff\xff", "ab", "\x00", "\xff", "\xff\xff", "e/a", "e/a/0", "é",
		"a/\x00\x00\x00\x00\x00\x00\x00\x01"}
	b := &store.Batch{}
	for _, n := range names {
		b.Appends = append(b.Appends, store.Append{Log: store.Log(n), Record: []byte("log " + n)})
		b.Puts = append(b.Puts, store.Put{Key: state(n), Value: []byte("key " + n)},
			store.Put{Key: store.Key{Kind: store.Kind(n[0]), Name: n}, Value: []byte("odd kind")})
	}
	b.Puts = append(b.Puts, store.Put{Key: state(""), Value: []byte("no name")})
	f.commit(b)
	check := func() {
		t.Helper()
		for _, n := range names {
			f.reads(store.Log(n), 0, 10, "log "+n)
			f.bounds(store.Log(n), 0, 1)
			f.has(state(n), "key "+n)
		}
		f.has(state(""), "no name")
		f.scans(store.State, "a\xff", "a\xff=key a\xff", "a\xff\xff=key a\xff\xff")
		f.scans(store.State, "\xff", "\xff=key \xff", "\xff\xff=key \xff\xff")
	}
	check()
	f.reopen()
	check()
}
