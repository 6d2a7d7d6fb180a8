package plugin

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"tributary.io/gateway/plugin/meter"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/jsontext"
)

// instance is one running copy of a plugin's module. It is used by one
// goroutine at a time.
type instance struct {
	p   *Plugin
	ctx context.Context // leads host functions to the instance
	lin *linear
	mod api.Module
	mem api.Memory

	buffer, handle         guestFunc
	running                guestFunc // the one that is called now
	fuel, reserve, stopped api.MutableGlobal
	globals                []api.MutableGlobal // those of a snapshot

	// The request buffer as the guest gave it. It is guest state: a snapshot holds it.
	buf requestBuffer

	nodes     []jsontext.Node // of the last text that the guest had indexed
	random    rand.ChaCha8    // seeded when an event first draws
	monotonic int64           // the guest's monotonic clock, ns
	turn      time.Time       // since when the guest holds its processor
	call      call
	stack     [1]uint64
	spent     uint64 // fuel that the event in hand used
}

type requestBuffer struct{ ptr, cap uint32 }

// call is the state of the event that the instance handles.
type call struct {
	fuel     int64 // that the event may use; 0: the start
	limit    time.Duration
	deadline time.Time // limit after the begin
	wall     int64     // the guest's clock, Unix ns
	device   string
	seed     string
	seeded   bool
	state    StateReader
	keys     []string       // that were read
	values   [][]byte       // of keys; nil: absent
	index    map[string]int // of keys, if there are many
	read     int            // bytes of values
	scans    int
	scanned  int    // keys of all scans
	secret   bool   // the event holds credentials
	output   []byte // captured standard output and error
	logged   int
}

// snapshot is the state of an instance that has initialised and seen no event.
// Every instance of a plugin starts from the same.
type snapshot struct {
	memory  []byte
	globals []uint64
	buf     requestBuffer
}

// firstBuffer is how large a request the guest is asked to have room for before
// it has seen one.
const firstBuffer = 4 << 10

// newInstance starts an instance: from the plugin's snapshot if there is one,
// otherwise by running its initialiser.
func (p *Plugin) newInstance() (*instance, error) {
	reserve, err := reserveMemory(roundUp(p.grant.MemoryBytes, pageBytes))
	if err != nil {
		return nil, err
	}
	in := &instance{p: p}
	in.lin = &linear{in: in, reserve: reserve}
	in.ctx = context.WithValue(context.Background(), instanceKey{}, in)
	in.begin(p.digest, time.Unix(0, 0), p.host.cfg.StartDeadline, nil)
	if err := in.start(); err != nil {
		in.close()
		return nil, fmt.Errorf("starting plugin %s: %w", p.name, err)
	}
	return in, nil
}

func (in *instance) start() error {
	err := guarded(func() (err error) {
		in.mod, err = in.p.host.rt.InstantiateModule(withMemory(in.ctx, in.lin), in.p.compiled,
			wazero.NewModuleConfig().WithName("").WithStartFunctions())
		return err
	})
	if err != nil {
		return in.fault(err)
	}
	in.mem = in.mod.Memory()
	if err := in.lookUp(); err != nil {
		return err
	}
	if s := in.p.snapshot; s != nil {
		return in.adopt(s)
	}
	if init := in.mod.ExportedFunction(exportInit); init != nil {
		if _, err := in.run(newGuestFunc(init), 0, startFuel); err != nil {
			return in.fault(err)
		}
	}
	if err := in.growBuffer(firstBuffer, startFuel); err != nil {
		return in.fault(err)
	}
	return nil
}

// startFuel bounds the initialiser if the deadline does not.
const startFuel = 1 << 40

// lookUp finds the exports. Function handles hold the stack that WebAssembly
// code runs on, so fresh ones are taken after a fault, which a deep recursion
// may have been.
func (in *instance) lookUp() error {
	in.buffer, in.handle = newGuestFunc(in.mod.ExportedFunction(exportBuffer)), newGuestFunc(in.mod.ExportedFunction(exportHandle))
	var missing error
	global := func(name string) api.MutableGlobal {
		g, ok := in.mod.ExportedGlobal(name).(api.MutableGlobal)
		if !ok {
			missing = fmt.Errorf("the rewritten module has no mutable global %s", name)
		}
		return g
	}
	in.fuel, in.reserve, in.stopped = global(meter.FuelGlobal), global(meter.ReserveGlobal), global(meter.StopGlobal)
	in.globals = in.globals[:0]
	for _, name := range in.p.module.Globals {
		in.globals = append(in.globals, global(name))
	}
	return missing
}

// guestFunc is an export with a view on the stack that its code runs on.
type guestFunc struct {
	function api.Function
	stack    reflect.Value
}

// maxStack is how large that stack may be at a checkpoint. wazero doubles it on
// demand up to 100 MB and cannot be told less, but copying tens of megabytes
// would hold up the garbage collector and the deadline. Between two checkpoints
// it grows by a few megabytes at most, since each byte of it costs fuel.
const maxStack = 16 << 20

// newGuestFunc looks into wazero's function for its stack. Should a later wazero
// name it differently only its own limit is left; a test would say so.
func newGuestFunc(f api.Function) guestFunc {
	g := guestFunc{function: f}
	if v := reflect.ValueOf(f); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		if s := v.Elem().FieldByName("stack"); s.Kind() == reflect.Slice {
			g.stack = s
		}
	}
	return g
}

// stackBytes returns the size of the stack, 0 if it cannot be seen.
func (g *guestFunc) stackBytes() int {
	if !g.stack.IsValid() {
		return 0
	}
	return g.stack.Len()
}

// begin prepares for an event or for the start.
func (in *instance) begin(seed string, now time.Time, limit time.Duration, st StateReader) {
	c := &in.call
	clear(c.values)
	in.turn = time.Now()
	*c = call{
		limit: limit, deadline: in.turn.Add(limit), wall: now.UnixNano(), seed: seed, state: st,
		keys: c.keys[:0], values: c.values[:0], output: c.output[:0],
	}
	in.lin.refused = false
	in.spent = 0
}

// run calls a function of the guest with a budget of fuel and returns its result.
func (in *instance) run(fn guestFunc, arg uint64, budget uint64) (result uint64, err error) {
	fuel, reserve := in.p.module.Split(budget)
	in.stopped.Set(meter.StopNone)
	in.fuel.Set(fuel)
	in.reserve.Set(reserve)
	in.stack[0] = arg
	in.running = fn
	err = guarded(func() error { return fn.function.CallWithStack(in.ctx, in.stack[:]) })
	left := int64(in.fuel.Get()) + int64(in.reserve.Get())
	in.spent += budget - uint64(min(max(left, 0), int64(budget)))
	return in.stack[0], err
}

// guarded turns a panic of the WebAssembly runtime into an error.
func guarded(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the WebAssembly runtime panicked: %v", r)
		}
	}()
	return fn()
}

// growBuffer asks the guest for a request buffer of n bytes or more.
func (in *instance) growBuffer(n int, budget uint64) error {
	n = max(n, firstBuffer)
	n = 1 << bits.Len(uint(n-1))
	ptr, err := in.run(in.buffer, uint64(n), budget)
	if err != nil {
		return err
	}
	if _, ok := in.mem.Read(uint32(ptr), uint32(n)); !ok || uint32(ptr) == 0 {
		return fmt.Errorf("%w: %s(%d) returned %#x", errGuestPointer, exportBuffer, n, uint32(ptr))
	}
	in.buf = requestBuffer{ptr: uint32(ptr), cap: uint32(n)}
	return nil
}

// handleEvent runs the guest on one event and returns its result, which owns
// its memory. On an error the instance must be restored before it is used again.
func (in *instance) handleEvent(ev *event.Inbound, now time.Time, st StateReader, fuel int64) (event.Result, error) {
	in.begin(ev.Event.ID, now, in.p.grant.Deadline, st)
	in.call.fuel = fuel
	in.call.device, in.call.secret = ev.Event.Device, ev.Event.Type == event.TypeConnect
	n, err := in.writeRequest(ev, now)
	if err != nil {
		return event.Result{}, in.fault(err)
	}
	out, err := in.run(in.handle, uint64(n), uint64(max(fuel-int64(in.spent), 0)))
	if err != nil {
		return event.Result{}, in.fault(err)
	}
	return in.readResponse(uint32(out>>32), uint32(out))
}

// writeRequest encodes the event into the guest's buffer.
func (in *instance) writeRequest(ev *event.Inbound, now time.Time) (int, error) {
	view, ok := in.mem.Read(in.buf.ptr, in.buf.cap)
	if !ok {
		return 0, errGuestPointer
	}
	request := codec.AppendRequest(view[:0], ev, now, in.p.settings)
	if len(request) <= len(view) && &request[0] == &view[0] {
		return len(request), nil
	}
	if len(request) > len(view) {
		if err := in.growBuffer(len(request), uint64(in.call.fuel)); err != nil {
			return 0, err
		}
	}
	if !in.mem.Write(in.buf.ptr, request) {
		return 0, errGuestPointer
	}
	return len(request), nil
}

func (in *instance) readResponse(ptr, n uint32) (event.Result, error) {
	limit := in.p.host.cfg.OutputBytes
	switch {
	case ptr == 0 && n == 0:
		return event.Result{}, in.newFault(FaultFailed, "it could not make a result")
	case int64(n) > int64(limit):
		return event.Result{}, in.newFault(FaultOutput, fmt.Sprintf("its result has %d bytes, at most %d are possible (wasm.output_bytes)", n,
			limit))
	}
	view, ok := in.mem.Read(ptr, n)
	if !ok {
		return event.Result{}, in.newFault(FaultGarbage, errGuestPointer.Error())
	}
	result, err := codec.ParseResponse(append(make([]byte, 0, n), view...))
	if err != nil {
		return event.Result{}, in.newFault(FaultGarbage, fmt.Sprintf("its result is no HandleResponse: %v", err))
	}
	return result, nil
}

// adopt puts the instance into the state of the snapshot.
func (in *instance) adopt(s *snapshot) error {
	if more := len(s.memory) - in.lin.size; more > 0 {
		if _, ok := in.mem.Grow(uint32(more / pageBytes)); !ok {
			return fmt.Errorf("its memory cannot grow to the %d bytes of its snapshot", len(s.memory))
		}
	}
	in.lin.restore(s.memory)
	for i, g := range in.globals {
		g.Set(s.globals[i])
	}
	in.buf = s.buf
	return nil
}

// unrestorable says why a snapshot could not hold all of the state; "" is that
// it can. A reference is a pointer into this very instance, of which another
// instance that starts from the snapshot must know nothing.
func (in *instance) unrestorable() string {
	if u := in.p.module.Unrestorable; len(u) > 0 {
		return u[0]
	}
	for i, g := range in.globals {
		switch g.Type() {
		case api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF32, api.ValueTypeF64:
		default:
			return "mutable reference " + in.p.module.Globals[i]
		}
	}
	return ""
}

// snapshot returns the instance's state.
func (in *instance) snapshot() *snapshot {
	s := &snapshot{memory: append([]byte{}, in.lin.reserve[:in.lin.size]...), buf: in.buf}
	for _, g := range in.globals {
		s.globals = append(s.globals, g.Get())
	}
	return s
}

// close ends the instance and frees its memory.
func (in *instance) close() {
	if in.mod != nil {
		_ = in.mod.Close(context.Background()) // it has no resources whose closing can fail
	}
	in.lin.Free()
}

// fault says what an error of a guest's call means. An error of the state
// reader is returned as it is, since the plugin is not to blame.
func (in *instance) fault(err error) error {
	var exit exitError
	if state := (stateError{}); errors.As(err, &state) {
		return fmt.Errorf("plugin %s: reading state: %w", in.p.name, state.error)
	}
	text, trace, _ := strings.Cut(err.Error(), "\n")
	text = strings.TrimSuffix(strings.TrimPrefix(text, "wasm error: "), " (recovered by wazero)")
	switch {
	case errors.Is(err, errDeadline):
		return in.newFault(FaultDeadline, fmt.Sprintf("it took longer than %v", in.call.limit))
	case in.stopped != nil && in.stopped.Get() == meter.StopFuel && in.call.fuel > 0 && in.call.fuel < in.p.grant.Fuel:
		return in.newFault(FaultTrial, fmt.Sprintf("it took more than the %d units of fuel of a trial", in.call.fuel))
	case in.stopped != nil && in.stopped.Get() == meter.StopFuel:
		return in.newFault(FaultFuel, fmt.Sprintf("it took more than %d units of fuel", in.p.grant.Fuel))
	case errors.Is(err, errGuestPointer):
		return in.newFault(FaultGarbage, text)
	case in.lin.refused:
		return in.newFault(FaultMemory, fmt.Sprintf("it needed more than %d bytes of memory (%s)", in.p.grant.MemoryBytes, text))
	case errors.Is(err, errStack), strings.Contains(text, "stack overflow"):
		return in.newFault(FaultStack, errStack.Error())
	case errors.As(err, &exit):
		return in.newFault(FaultExit, fmt.Sprintf("it ended itself with code %d", uint32(exit)))
	}
	if len(in.call.output) == 0 {
		text += "; " + trace
	}
	return in.newFault(FaultTrap, text)
}

// maxDetail bounds the text of a fault; it ends up in logs and quarantine.
const maxDetail = 4 << 10

func (in *instance) newFault(kind, text string) *Fault {
	if in.call.secret {
		return &Fault{Plugin: in.p.name, Kind: kind, Detail: "while it judged credentials; what it said is left out, since it may hold them"}
	}
	if len(in.call.output) > 0 {
		text += "; it printed: " + strings.TrimSpace(string(in.call.output))
	}
	if len(text) > maxDetail {
		text = text[:maxDetail]
	}
	return &Fault{Plugin: in.p.name, Kind: kind, Detail: strings.ToValidUTF8(text, "\uFFFD")}
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
