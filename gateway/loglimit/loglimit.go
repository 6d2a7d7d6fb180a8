// Package loglimit keeps events that come in floods from flooding the log: it says when to
// write a line about them, and how many events the line stands for.
package loglimit

import (
	"sync"
	"time"
)

const (
	// interval is the shortest time between two lines about the same key.
	interval = time.Minute
	// keysMax is how many keys are remembered. Beyond it, all other keys share one line.
	keysMax = 4096
)

// Limit counts events by key. The zero value is ready for use. It is safe for concurrent use.
type Limit[K comparable] struct {
	mu    sync.Mutex
	keys  map[K]*events
	rest  events    // of keys that there is no room for
	swept time.Time // when old keys were forgotten last
}

// events are those of one key since its last line.
type events struct {
	told time.Time // zero: there was no line
	n    int
}

// Count counts an event, and returns how many events a line of the log should stand for now.
// 0 means that no line is due.
func (l *Limit[K]) Count(key K, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[K]*events{}
	}
	x := l.keys[key]
	if x == nil && len(l.keys) >= keysMax {
		l.sweepLocked(now)
	}
	switch {
	case x != nil:
	case len(l.keys) >= keysMax:
		x = &l.rest
	default:
		x = new(events)
		l.keys[key] = x
	}
	x.n++
	if !x.told.IsZero() && now.Sub(x.told) < interval {
		return 0
	}
	n := x.n
	x.told, x.n = now, 0
	return n
}

// sweepLocked forgets keys without a recent line. It looks at all keys, so it does so only
// once in an interval.
func (l *Limit[K]) sweepLocked(now time.Time) {
	if now.Sub(l.swept) < interval {
		return
	}
	l.swept = now
	for key, x := range l.keys {
		if now.Sub(x.told) >= interval {
			delete(l.keys, key)
		}
	}
}
