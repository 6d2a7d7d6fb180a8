// Package reader lets somebody take the records of a log when it wants them, where the
// consumer stage hands them out as they come: it has no more of them in memory than was
// allowed, and says which are done. Whoever answers requests with a log, or pushes it
// somewhere, reads it with a Reader. The position, groups and filters are the consumer's.
package reader

import (
	"context"
	"errors"
	"slices"
	"sync"

	"tributary.io/gateway/stage"
)

// Logs is where the records come from.
type Logs interface {
	// Join makes a member that gets records through deliver, which does not block. What is
	// out at once is bounded by the subscription's Window and Bytes.
	Join(sub stage.Subscription, deliver func(stage.Record)) (stage.Membership, error)
}

// Reader is one member of a group, or a reader on its own. It is safe for concurrent use.
type Reader struct {
	member stage.Membership
	ready  chan struct{} // capacity 1: something may have come

	mu     sync.Mutex
	queue  []stage.Record
	out    []uint64 // taken and not acknowledged, ascending but for what came again
	closed bool
}

// ErrClosed is what Next says after Close.
var ErrClosed = errors.New("the reader is closed")

// Open joins a log. The error is a *stage.Error.
func Open(logs Logs, sub stage.Subscription) (*Reader, error) {
	r := &Reader{ready: make(chan struct{}, 1)}
	member, err := logs.Join(sub, r.deliver)
	if err != nil {
		return nil, err
	}
	r.member = member
	return r, nil
}

func (r *Reader) deliver(record stage.Record) {
	r.mu.Lock()
	r.queue = append(r.queue, record)
	r.mu.Unlock()
	r.signal()
}

func (r *Reader) signal() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// Next takes what has come, in order: at least one record, for which it waits, and at most so
// many of them and of their bytes, beside one of any size. Its error is ctx's, or
// ErrClosed. One goroutine calls it at a time.
func (r *Reader) Next(ctx context.Context, most, bytes int) ([]stage.Record, error) {
	for {
		if list, err := r.take(most, bytes); len(list) > 0 || err != nil {
			return list, err
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *Reader) take(most, bytes int) (list []stage.Record, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	n, size := 0, 0
	for n < len(r.queue) && n < most && (n == 0 || size+len(r.queue[n].Event) <= bytes) {
		size += len(r.queue[n].Event)
		r.out = append(r.out, r.queue[n].Offset)
		n++
	}
	list = slices.Clone(r.queue[:n])
	clear(r.queue[:n])
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	return list, nil
}

// Ack says that records are done, and returns how many of the offsets were waited for. Others
// are ignored: they were acknowledged before, or went to another member.
func (r *Reader) Ack(offsets ...uint64) int {
	return r.ack(func(o uint64) bool { return slices.Contains(offsets, o) })
}

// AckThrough says that all records that were taken are done up to an offset, and returns how
// many.
func (r *Reader) AckThrough(offset uint64) int {
	return r.ack(func(o uint64) bool { return o <= offset })
}

func (r *Reader) ack(is func(uint64) bool) int {
	r.mu.Lock()
	var done []uint64
	r.out = slices.DeleteFunc(r.out, func(o uint64) bool {
		if is(o) {
			done = append(done, o)
			return true
		}
		return false
	})
	r.mu.Unlock()
	for _, o := range done { // without the lock: the group has its own
		r.member.Ack(o)
	}
	return len(done)
}

// Close leaves: what was not acknowledged goes to other members of the group. Later calls do
// nothing.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed, r.queue, r.out = true, nil, nil
	r.mu.Unlock()
	r.member.Leave()
	r.signal()
}
