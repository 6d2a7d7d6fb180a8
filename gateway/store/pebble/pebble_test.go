package pebble

import (
	"log/slog"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

func testConfig(dir string) Config {
	c := Default()
	c.Dir = dir
	return c
}

func testOpen(t testing.TB, dir string) store.Store {
	t.Helper()
	s, err := Open(testConfig(dir), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	s := testOpen(t, dir)
	done := make(chan error, 1)
	b := &store.Batch{
		Appends: []store.Append{{Log: store.Events("a"), Record: []byte("one"), Time: time.Now()}, {Log: store.Events("a"), Record: []byte("two")}},
		Puts:    []store.Put{{Key: store.Key{Kind: store.State, Name: "k"}, Value: []byte("v")}},
	}
	if err := s.Commit(b, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = testOpen(t, dir)
	defer s.Close()
	v, rev, err := s.Get(store.Key{Kind: store.State, Name: "k"})
	if string(v) != "v" || rev == 0 || err != nil {
		t.Fatal(v, rev, err)
	}
	var got []string
	if err := s.Read(store.Events("a"), 0, 10, func(o uint64, tm time.Time, r []byte) bool { got = append(got, string(r)); return true }); err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if err := s.Commit(&store.Batch{Expect: []store.Expect{{Key: store.Key{Kind: store.State, Name: "k"}}}}, nil); err != store.ErrConflict {
		t.Fatal(err)
	}
}
