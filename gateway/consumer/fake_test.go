package consumer

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

// fakeStore keeps logs and keys in memory; everything is durable at once.
type fakeStore struct {
	mu    sync.Mutex
	logs  map[store.Log]*fakeLog
	keys  map[store.Key][]byte
	fail  error // of Read
	watch map[store.Log][]func(uint64)
}

type fakeLog struct {
	first   uint64
	records [][]byte
	times   []time.Time
}

func newFakeStore() *fakeStore {
	return &fakeStore{logs: map[store.Log]*fakeLog{}, keys: map[store.Key][]byte{}, watch: map[store.Log][]func(uint64){}}
}

func (f *fakeStore) log(l store.Log) *fakeLog {
	if f.logs[l] == nil {
		f.logs[l] = &fakeLog{}
	}
	return f.logs[l]
}

func (f *fakeStore) Commit(b *store.Batch, done func(error)) error {
	f.mu.Lock()
	var wake []func()
	for _, a := range b.Appends {
		l := f.log(a.Log)
		l.records, l.times = append(l.records, slices.Clone(a.Record)), append(l.times, a.Time)
		next := l.first + uint64(len(l.records))
		for _, fn := range f.watch[a.Log] {
			wake = append(wake, func() { fn(next) })
		}
	}
	for _, p := range b.Puts {
		f.keys[p.Key] = slices.Clone(p.Value)
	}
	for _, k := range b.Deletes {
		delete(f.keys, k)
	}
	f.mu.Unlock()
	done(nil)
	for _, fn := range wake {
		fn()
	}
	return nil
}

func (f *fakeStore) Get(k store.Key) ([]byte, store.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[k], 0, nil
}

func (f *fakeStore) Scan(kind store.Kind, prefix string, fn func(string, []byte, store.Revision) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, v := range f.keys {
		if k.Kind == kind && strings.HasPrefix(k.Name, prefix) && !fn(k.Name, v, 0) {
			break
		}
	}
	return nil
}

func (f *fakeStore) Read(l store.Log, from uint64, limit int, fn func(uint64, time.Time, []byte) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	lg := f.log(l)
	for o := max(from, lg.first); o < lg.first+uint64(len(lg.records)) && limit > 0; o, limit = o+1, limit-1 {
		if !fn(o, lg.times[o-lg.first], lg.records[o-lg.first]) {
			break
		}
	}
	return nil
}

func (f *fakeStore) Bounds(l store.Log) (uint64, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lg := f.log(l)
	return lg.first, lg.first + uint64(len(lg.records)), nil
}

func (f *fakeStore) OffsetAt(l store.Log, t time.Time) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lg := f.log(l)
	for i, at := range lg.times {
		if !at.Before(t) {
			return lg.first + uint64(i), nil
		}
	}
	return lg.first + uint64(len(lg.records)), nil
}

func (f *fakeStore) Watch(l store.Log, fn func(uint64)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch[l] = append(f.watch[l], fn)
	return func() {}
}

// drop removes the oldest n records, as retention does.
func (f *fakeStore) drop(l store.Log, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lg := f.log(l)
	lg.first, lg.records, lg.times = lg.first+uint64(n), lg.records[n:], lg.times[n:]
}

// append writes n records; record i holds its number as time in seconds.
func (f *fakeStore) append(t testing.TB, n int) {
	t.Helper()
	for range n {
		_, next, _ := f.Bounds(store.Events("demo"))
		err := f.Commit(&store.Batch{Appends: []store.Append{{Log: store.Events("demo"), Record: []byte("event"),
			Time: time.Unix(int64(next), 0)}}}, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
	}
}

type demoOnly struct{}

func (demoOnly) Exists(application string) bool { return application == "demo" }

func newTestConsumer(t testing.TB, st Store) *Consumer {
	t.Helper()
	cfg := Default()
	cfg.MaxGroups = 3
	c := New(cfg, st, demoOnly{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() {
		if err := c.shut(); err != nil {
			t.Error("shut:", err)
		}
	})
	return c
}

// reader is a receiver that shows what it got.
type reader struct {
	stage.Membership
	got chan uint64
}

func join(t testing.TB, c *Consumer, sub stage.Subscription) *reader {
	t.Helper()
	sub.Application = "demo"
	if sub.Window == 0 {
		sub.Window = 10
	}
	r := &reader{got: make(chan uint64, 1<<16)}
	m, err := c.Join(sub, func(rec stage.Record) { r.got <- rec.Offset })
	if err != nil {
		t.Fatal("join:", err)
	}
	r.Membership = m
	return r
}

// take receives n offsets without acknowledging them.
func (r *reader) take(t testing.TB, n int) []uint64 {
	t.Helper()
	var out []uint64
	for len(out) < n {
		select {
		case o := <-r.got:
			out = append(out, o)
		case <-time.After(60 * time.Second):
			t.Fatalf("got %d of %d records: %v", len(out), n, out)
		}
	}
	return out
}

// ack acknowledges offsets.
func (r *reader) ack(offsets ...uint64) {
	for _, o := range offsets {
		r.Ack(o)
	}
}
