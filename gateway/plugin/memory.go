package plugin

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero/experimental"
)

// linear is the linear memory of an instance. It reserves the whole limit at once if the
// platform can, so that growing never copies, and stays out of the Go heap.
type linear struct {
	in      *instance
	reserve []byte // the limit long
	size    int
	refused bool // a growth was refused since the last call began
}

// checkpointBytes is the size that the rewritten guest asks for at a checkpoint
// (meter.Options.ReportCheckpoints): more than any plugin may have.
const checkpointBytes = 1 << 32

// withMemory makes the next instantiation under the context use the memory.
func withMemory(ctx context.Context, m *linear) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(
		func(uint64, uint64) experimental.LinearMemory { return m }))
}

// Reallocate grows the memory, or is the guest's checkpoint.
func (m *linear) Reallocate(size uint64) []byte {
	if size == checkpointBytes {
		m.in.checkpoint()
		return nil
	}
	if size > uint64(len(m.reserve)) {
		m.refused = true
		return nil
	}
	m.size = max(m.size, int(size))
	return m.reserve[:m.size]
}

// Free gives the memory back.
func (m *linear) Free() {
	if m.reserve != nil {
		unreserve(m.reserve)
		m.reserve, m.size = nil, 0
	}
}

// yieldEvery is how long a guest may hold its processor. What waits for a turn waits
// so long for each: a garbage collection takes hundreds of them while it sweeps.
const yieldEvery = 200 * time.Microsecond

// checkpoint runs on the guest's own goroutine every meter.MaxInterval units of fuel, and in
// host functions. Since it is Go code, the garbage collector can stop the goroutine here. It
// lets goroutines run that wait for a processor, and ends the call when the time is up.
func (in *instance) checkpoint() {
	now := time.Now()
	if now.Sub(in.turn) > yieldEvery {
		runtime.Gosched()
		now = time.Now()
		in.turn = now
	}
	if now.After(in.call.deadline) {
		panic(errDeadline)
	}
	if in.running.stackBytes() > maxStack {
		panic(errStack)
	}
}

// copyChunk keeps a copy short enough for the garbage collector to interrupt.
const copyChunk = 1 << 20

// restore puts the memory back to the snapshot and zeroes the rest.
func (m *linear) restore(snapshot []byte) {
	for at := 0; at < len(snapshot); at += copyChunk {
		copy(m.reserve[at:], snapshot[at:min(at+copyChunk, len(snapshot))])
	}
	zero(m.reserve[len(snapshot):m.size])
}

// What ends a guest's call from within a host function.
var (
	errFuel         = errors.New("the fuel is spent")
	errDeadline     = errors.New("the deadline passed")
	errStack        = errors.New("its calls nested too deep")
	errGuestPointer = errors.New("it gave the host a pointer outside its memory")
)

// exitError is the guest's own proc_exit.
type exitError uint32

func (e exitError) Error() string { return "it called exit" }
