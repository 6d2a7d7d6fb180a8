package router

import (
	"log/slog"
	"testing"

	"tributary.io/gateway/store"
)

// stuckStore stops where the state of one plugin is counted.
type stuckStore struct {
	*fakeStore
	counting chan string
	goOn     chan struct{}
}

func (s stuckStore) Scan(kind store.Kind, prefix string, fn func(string, []byte, store.Revision) bool) error {
	if prefix == "demo\x00big\x00" {
		s.counting <- prefix
		<-s.goOn
	}
	return s.fakeStore.Scan(kind, prefix, fn)
}

// While the state of one plugin is counted, others reserve and settle.
func TestCountingHoldsUpNobody(t *testing.T) {
	st := stuckStore{newFakeStore(), make(chan string), make(chan struct{})}
	r, err := New(Default(), map[string]Handler{}, st, fakeRegistry{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- r.reserve("demo\x00big\x00", &handlerFunc{name: "big", bytes: 100}, 1) }()
	<-st.counting
	small := &handlerFunc{name: "small", bytes: 100}
	if err := r.reserve("other\x00small\x00", small, 60); err != nil {
		t.Error(err)
	}
	r.settle(growth{"other\x00small\x00", 60})
	r.settle(growth{"demo\x00big\x00", 30})
	if err := r.reserve("other\x00small\x00", small, 41); err == nil {
		t.Error("101 bytes were allowed, 100 are granted")
	}
	close(st.goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := r.quotas.of("demo\x00big\x00").bytes.Load(); n != 30 {
		t.Errorf("%d bytes, want the 30 that were settled meanwhile", n)
	}
}

// A sum that went wrong is put right after a while.
func TestStateIsCountedAgain(t *testing.T) {
	r, err := New(Default(), map[string]Handler{}, newFakeStore(), fakeRegistry{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := &handlerFunc{name: "p", bytes: 100}
	if err := r.reserve("demo\x00p\x00", h, 1); err != nil {
		t.Fatal(err)
	}
	u := r.quotas.of("demo\x00p\x00")
	u.bytes.Add(-1000)
	if r.reserve("demo\x00p\x00", h, 1); u.bytes.Load() != -1000 {
		t.Error("it is counted every time")
	}
	u.anyway.Store(1)
	r.reserve("demo\x00p\x00", h, 1)
	if r.workers.Wait(); u.bytes.Load() != 0 {
		t.Errorf("%d bytes, want 0", u.bytes.Load())
	}
}
