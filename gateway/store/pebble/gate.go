package pebble

import (
	"sync"
	"sync/atomic"

	"tributary.io/gateway/store"
)

// gate counts the callers inside. Once it is closed, it lets no caller in.
type gate struct {
	n    atomic.Int64
	once sync.Once
	out  chan struct{} // closed when the last one left
}

const gateShut = -1 << 40

func (g *gate) enter() error {
	if g.n.Add(1) > 0 {
		return nil
	}
	g.leave()
	return store.ErrClosed
}

func (g *gate) leave() {
	if g.n.Add(-1) == gateShut {
		g.once.Do(func() { close(g.out) })
	}
}

// close waits until no caller is inside.
func (g *gate) close() {
	if g.n.Add(gateShut) != gateShut {
		<-g.out
	}
}
