package reader

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"tributary.io/gateway/stage"
)

// fakeLog hands out what the test says.
type fakeLog struct {
	deliver func(stage.Record)
	acked   []uint64
	left    bool
}

func (f *fakeLog) Join(_ stage.Subscription, deliver func(stage.Record)) (stage.Membership, error) {
	f.deliver = deliver
	return f, nil
}
func (f *fakeLog) Ack(offset uint64) { f.acked = append(f.acked, offset) }
func (f *fakeLog) Leave()            { f.left = true }

func offsets(list []stage.Record) (o []uint64) {
	for _, r := range list {
		o = append(o, r.Offset)
	}
	return o
}

func TestReader(t *testing.T) {
	f := &fakeLog{}
	r, err := Open(f, stage.Subscription{})
	if err != nil {
		t.Fatal(err)
	}
	for o := range uint64(6) {
		f.deliver(stage.Record{Offset: o, Event: make([]byte, 10)})
	}
	next := func(most, bytes int, want ...uint64) {
		t.Helper()
		list, err := r.Next(t.Context(), most, bytes)
		if err != nil || !slices.Equal(offsets(list), want) {
			t.Fatalf("%v %v, want %v", offsets(list), err, want)
		}
	}
	next(2, 1000, 0, 1)
	next(100, 20, 2, 3)
	next(100, 1, 4) // one of any size
	if n := r.Ack(1, 3, 99, 5); n != 2 || !slices.Equal(f.acked, []uint64{1, 3}) {
		t.Errorf("%d %v", n, f.acked)
	}
	if n := r.AckThrough(3); n != 2 || !slices.Equal(f.acked, []uint64{1, 3, 0, 2}) {
		t.Errorf("%d %v", n, f.acked)
	}
	if n := r.Ack(1); n != 0 {
		t.Error("acknowledged twice")
	}
	next(9, 1000, 5)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Next(ctx, 1, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ended := make(chan error)
	go func() { _, err := r.Next(t.Context(), 1, 1); ended <- err }()
	r.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) || !f.left {
		t.Error(err, f.left)
	}
	if r.AckThrough(100) != 0 {
		t.Error("acknowledged after Close")
	}
}
