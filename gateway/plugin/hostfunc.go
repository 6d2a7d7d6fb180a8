package plugin

import (
	"context"
	"encoding/binary"
	"log/slog"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"tributary.io/gateway/plugin/meter"
	"tributary.io/sdk-plugin/jsontext"
)

// hostFunc is one function that a guest may import. params and results have one
// letter per value: i for i32, I for i64. run finds the parameters on the stack
// and leaves the result in stack[0].
type hostFunc struct {
	name, params, results string
	run                   func(in *instance, stack []uint64)
}

// instanceKey is the key under which a call's context holds its *instance.
type instanceKey struct{}

// hostFunctions is the module "tributary" of ABI 1.
func hostFunctions() []hostFunc {
	return []hostFunc{
		{importStateGet, "iiii", "I", stateGet},
		{importScan, "iiiiiii", "I", stateScan},
		{importLog, "iii", "", guestLog},
		{importJSON, "iiii", "i", indexJSON},
	}
}

// instantiateHost makes a module of host functions that guests can import.
func instantiateHost(ctx context.Context, rt wazero.Runtime, module string, funcs []hostFunc) error {
	types := func(letters string) []api.ValueType {
		list := make([]api.ValueType, 0, len(letters))
		for _, l := range letters {
			if l == 'I' {
				list = append(list, api.ValueTypeI64)
			} else {
				list = append(list, api.ValueTypeI32)
			}
		}
		return list
	}
	b := rt.NewHostModuleBuilder(module)
	for _, f := range funcs {
		call := api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
			in := ctx.Value(instanceKey{}).(*instance)
			if in.mem == nil { // a start section runs before the instance has its exports
				in.mem = mod.Memory()
			}
			f.run(in, stack)
		})
		b.NewFunctionBuilder().WithGoModuleFunction(call, types(f.params), types(f.results)).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// guestLog is log(level, ptr, len).
func guestLog(in *instance, stack []uint64) {
	in.pay(0)
	text := in.guestBytes(stack[1], stack[2])
	if room := in.p.host.cfg.LogBytes - in.call.logged; len(text) > room {
		in.p.metrics.logDropped.Add(uint64(len(text) - room))
		text = text[:room]
	}
	if len(text) == 0 || in.call.secret {
		return
	}
	in.call.logged += len(text)
	in.pay(lineFuel)
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	level := levels[min(uint32(stack[0]), uint32(len(levels)-1))]
	in.p.log.Log(context.Background(), level, strings.ToValidUTF8(string(text), "\uFFFD"), "device", in.call.device)
}

// Results of json_index that are no number of nodes.
const (
	jsonInvalid = -1
	jsonTooLong = -2
)

const (
	// maxJSONBytes bounds what one call may take, as fuel and deadline do not.
	maxJSONBytes = 1 << 20
	// jsonFuel is charged for each byte of a text.
	jsonFuel = 16
)

// indexJSON is json_index(text_ptr, text_len, nodes_ptr, nodes_cap) → i32: the
// number of nodes, which are written when there is room for all of them.
func indexJSON(in *instance, stack []uint64) {
	text := in.guestBytes(stack[0], stack[1])
	room := uint32(stack[3])
	if len(text) > maxJSONBytes {
		stack[0] = signed32(jsonTooLong)
		return
	}
	in.pay(len(text) * jsonFuel)
	var ok bool
	if in.nodes, ok = jsontext.Append(in.nodes[:0], text); !ok {
		stack[0] = signed32(jsonInvalid)
		return
	}
	n := uint32(len(in.nodes))
	if n <= room {
		const size = 12
		out := in.guestBytes(stack[2], uint64(n)*size)
		for i := range in.nodes {
			node, b := &in.nodes[i], out[i*size:i*size+size]
			binary.LittleEndian.PutUint32(b, node.Start)
			binary.LittleEndian.PutUint32(b[4:], node.End)
			binary.LittleEndian.PutUint32(b[8:], node.Next)
		}
	}
	if cap(in.nodes) > 1<<16 {
		in.nodes = nil
	}
	stack[0] = uint64(n)
}

// guestBytes returns a view on guest memory. It ends the call if the guest has no such memory.
func (in *instance) guestBytes(ptr, n uint64) []byte {
	b, ok := in.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		panic(errGuestPointer)
	}
	return b
}

// Fuel for work of the gateway: about what it could execute of the guest in the
// same time. json_index has jsonFuel.
const (
	lineFuel   = 2000 // a line for the log
	readFuel   = 1000 // a key of the state
	scanFuel   = 8000 // a scan; its keys are paid beside it
	keyFuel    = 200  // a key that a scan finds
	vectorFuel = 20   // a vector of fd_write, a subscription of poll_oneoff
	copyShift  = 3    // copying: 8 bytes are one unit
	randomFuel = 1    // a random byte
)

// pay charges the guest for work of the gateway. It is a checkpoint: it lets other goroutines
// run, and ends the call if the time or the fuel is used up. A host function whose work the
// guest can make long calls it before it does the work.
func (in *instance) pay(units int) {
	if in.fuel != nil { // a start section runs before the instance has its exports
		fuel := int64(in.fuel.Get()) - int64(units)
		in.fuel.Set(uint64(fuel))
		if fuel+int64(in.reserve.Get()) < 0 {
			in.stopped.Set(meter.StopFuel)
			panic(errFuel)
		}
	}
	in.checkpoint()
}

func signed(v int64) uint64 { return uint64(v) }

func signed32(v int32) uint64 { return uint64(uint32(v)) }
