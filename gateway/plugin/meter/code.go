package meter

import "fmt"

// body is the rewriting of one function. Its instructions are read into events (this file), the
// events are divided into segments that are paid for at once (plan.go), and then written with what
// is injected (weave.go). The buffers are reused from function to function.
type body struct {
	*rewriter
	fn         uint32 // index of the function
	locals     uint32 // with parameters
	groups     uint32 // of locals
	start      int    // of the function
	declared   int    // position of the first group
	code       int    // of the first instruction
	events     []event
	allLocals  uint32 // of all functions so far
	open       []int  // events that opened the blocks around the current instruction
	loops      uint32 // of the function
	targets    uint32 // of its br_table instructions
	values     uint64 // that its calls, blocks and branches move beyond the usual few
	cost       uint64 // of compiling all functions so far, see charge
	plain      uint32
	planner    planner
	outers     []uint32 // of the open blocks while writing: how many of them have an outer loop
	codeBuffer []byte
}

// event is an instruction that the meter has to know: control flow, calls, and what is replaced.
type event struct {
	at, next uint32 // its bytes
	plain    uint32 // units of the ordinary instructions since the event before
	arg      uint32 // branches: the farthest label; calls: the function to call in its place or before it
	units    uint32 // its own charge
	arity    uint32 // blocks: parameters and results
	segment  int32  // that begins behind it, or none
	kind     eventKind
	counts   bool // calls: whether it counts fuel; blocks: whether anything inside does
	switches bool // blocks: whether there is a br_table inside
	table    bool // blocks: whether a br_table jumps to its label
	outer    bool // loops: whether one is put around it, where the checkpoint is called
	load     bool // the fuel moves to the local before it
	spill    bool // the fuel moves to the global before it, for calls only while they run
}

type eventKind uint8

const (
	evStart    eventKind = iota // of the function
	evBlock                     // block
	evIf                        // if
	evLoop                      // loop
	evElse                      // else
	evEnd                       // end
	evBranch                    // br, br_table, return, unreachable: what follows is dead
	evBranchIf                  // br_if
	evCall                      // copied
	evPay                       // copied behind a call of the injected function arg
	evCallIn                    // replaced by a call of the injected function arg
	evPages                     // replaced by the memory size as the guest sees it
)

func (k eventKind) isCall() bool { return k == evCall || k == evPay || k == evCallIn }

func (w *rewriter) codeSection() {
	n := w.u32()
	if declared := uint32(len(w.funcs)) - w.importedFuncs; w.err == nil && n != declared {
		w.failf("%d functions are declared but %d have code", declared, n)
		return
	}
	own := make([]byte, 0, w.end-w.pos+(w.end-w.pos)/4)
	b := &body{rewriter: w}
	for i := uint32(0); i < n && w.err == nil; i++ {
		size := w.u32()
		if uint64(size) > uint64(w.end-w.pos) {
			w.failf("function %d is longer than its section", w.importedFuncs+i)
			return
		}
		outer := w.end
		w.end = w.pos + int(size)
		b.read(w.importedFuncs + i)
		if w.err == nil && w.pos != w.end {
			w.failf("function %d has %d bytes after its end", b.fn, w.end-w.pos)
		}
		if w.err != nil {
			return
		}
		if b.charge(); w.err != nil {
			return
		}
		b.plan()
		own = b.write(own)
		w.end = outer
	}
	w.bodies, w.mod.Cost = n, b.cost
	if w.err == nil {
		w.emitCode(own)
	}
}

// read decodes a function up to its last end.
func (b *body) read(fn uint32) {
	b.fn, b.start, b.plain = fn, b.pos, 0
	b.events, b.open = b.events[:0], b.open[:0]
	b.loops, b.targets, b.values = 0, 0, 0
	b.locals = b.types[b.funcs[fn]].params
	b.groups = b.u32()
	b.declared = b.pos
	for i := uint32(0); i < b.groups && b.err == nil; i++ {
		n := b.u32()
		b.valueType()
		if n > maxLocals || b.locals+n > maxLocals {
			b.failf("function %d has more than %d locals", fn, maxLocals)
			return
		}
		b.locals += n
		if b.allLocals += n; b.allLocals > maxAllLocals {
			b.failf("the module has more than %d locals", maxAllLocals)
		}
	}
	b.code = b.pos
	b.open = append(b.open, 0)
	e := b.event(b.pos, evStart, 0)
	e.units, e.arity = 1+b.locals, b.types[b.funcs[fn]].arity()
	for len(b.open) > 0 && b.err == nil {
		b.instruction()
	}
}

// event records the instruction that has just been read from position at.
func (b *body) event(at int, kind eventKind, arg uint32) *event {
	b.events = append(b.events, event{
		at: uint32(at), next: uint32(b.pos), plain: b.plain, arg: arg, units: 1, kind: kind, segment: none,
	})
	b.plain = 0
	return &b.events[len(b.events)-1]
}

// call records an instruction that counts fuel itself.
func (b *body) call(at int, kind eventKind, fn uint32) *event {
	b.events[b.open[len(b.open)-1]].counts = true
	e := b.event(at, kind, fn)
	e.counts = true
	return e
}

func (b *body) block(at int, kind eventKind) {
	arity := b.blockType()
	if b.moves(arity); kind == evLoop {
		b.moves(4 * arity) // measured: a loop's values take the compiler five times as long
	}
	b.open = append(b.open, len(b.events))
	b.event(at, kind, 0).arity = arity
}

// endOfBlock passes on to the enclosing block what is inside.
func (b *body) endOfBlock(at int) {
	last := len(b.open) - 1
	inner := &b.events[b.open[last]]
	b.open = b.open[:last]
	if last > 0 {
		outer := &b.events[b.open[last-1]]
		outer.counts = outer.counts || inner.counts
		outer.switches = outer.switches || inner.switches
	}
	b.event(at, evEnd, 0)
}

// label reads a branch target as the number of blocks to leave.
func (b *body) label() uint32 {
	depth := b.index("label", uint32(len(b.open)))
	if b.err == nil {
		b.moves(b.events[b.open[len(b.open)-1-int(depth)]].arity)
	}
	return depth
}

func (b *body) branchTable(at int) {
	n := b.u32()
	b.targets += n
	far := uint32(0)
	b.events[b.open[len(b.open)-1]].switches = true
	// One label more than n: the default.
	for i := uint64(0); i <= uint64(n) && b.err == nil; i++ {
		depth := b.label()
		if b.err == nil {
			b.events[b.open[len(b.open)-1-int(depth)]].table = true
			far = max(far, depth)
		}
	}
	b.event(at, evBranch, far)
}

// instruction reads one instruction.
func (b *body) instruction() {
	at := b.pos
	op := b.u8()
	if b.err != nil {
		return
	}
	switch {
	case op == 0x02:
		b.block(at, evBlock)
	case op == opLoop:
		b.loops++
		b.block(at, evLoop)
	case op == opIf:
		b.block(at, evIf)
	case op == opElse:
		if b.events[b.open[len(b.open)-1]].kind != evIf {
			b.failAt(at, "else without if")
			return
		}
		b.event(at, evElse, 0)
	case op == opEnd:
		b.endOfBlock(at)
	case op == 0x0c:
		b.event(at, evBranch, b.label())
	case op == opBrIf:
		b.event(at, evBranchIf, b.label())
	case op == opBrTable:
		b.branchTable(at)
	case op == opReturn:
		b.moves(b.events[0].arity)
		b.event(at, evBranch, uint32(len(b.open)-1))
	case op == 0x10:
		b.directCall(at)
	case op == 0x11:
		if t := b.index("type", uint32(len(b.types))); b.err == nil {
			b.moves(b.types[t].arity())
		}
		b.index("table", b.tables)
		b.call(at, evCall, 0)
	case op == opMemorySize:
		b.memory()
		b.event(at, evPages, 0)
	case op == opMemoryGrow:
		b.memory()
		b.call(at, evCallIn, fnGrow).units = growUnits
	case op == 0xfc:
		b.miscellaneous(at)
	default:
		b.plain++
		b.ordinary(at, op)
	}
}

func (b *body) directCall(at int) {
	fn := b.index("function", uint32(len(b.funcs)))
	if b.err == nil {
		b.moves(b.types[b.funcs[fn]].arity())
	}
	if e := b.call(at, evCall, 0); fn < b.importedFuncs {
		e.units += HostCallUnits
	}
}

// ordinary reads the immediates of an instruction that is copied as it is.
func (b *body) ordinary(at int, op byte) {
	switch {
	case op <= 0x01 || op == opDrop || op == opSelect:
	case op == 0x1c:
		n := b.u32()
		for i := uint32(0); i < n && b.err == nil; i++ {
			b.valueType()
		}
	case op >= opLocalGet && op <= opLocalTee:
		b.index("local", b.locals)
	case op == 0x23 || op == 0x24:
		b.index("global", b.globals)
	case op == 0x25:
		b.index("table", b.tables)
	case op == 0x26:
		b.index("table", b.tables)
		b.unrestorable("table.set", at)
	case op >= 0x28 && op <= 0x3e:
		b.memArg()
	case op == opI32Const:
		b.signed(32)
	case op == opI64Const:
		b.signed(64)
	case op == 0x43:
		b.bytes(4)
	case op == 0x44:
		b.bytes(8)
	case op >= 0x45 && op <= 0xc4 || op == 0xd1:
	case op == 0xd0:
		b.refType()
	case op == 0xd2:
		b.index("function", uint32(len(b.funcs)))
	case op == 0xfd:
		b.vector(at)
	default:
		b.refuse(at, op)
	}
}

// miscellaneous reads an instruction behind 0xfc. What works on a length pays for it.
func (b *body) miscellaneous(at int) {
	switch sub := b.opcode(); sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
		b.plain++
	case 8:
		b.u32()
		b.memory()
		b.call(at, evPay, fnBytes) // memory.init
	case 9:
		b.u32()
		b.plain++
		b.unrestorable("data.drop", at)
	case 10:
		b.memory()
		b.memory()
		b.call(at, evCallIn, fnCopy)
	case 11:
		b.memory()
		b.call(at, evCallIn, fnFill)
	case 12:
		b.index("element segment", b.elements)
		b.tableCall(at, "table.init", 1)
	case 13:
		b.index("element segment", b.elements)
		b.plain++
		b.unrestorable("elem.drop", at)
	case 14:
		b.tableCall(at, "table.copy", 2)
	case 15:
		b.index("table", b.tables)
		b.event(at, evCall, 0).units = growUnits
		b.unrestorable("table.grow", at)
	case 16:
		b.index("table", b.tables)
		b.plain++
	case 17:
		b.tableCall(at, "table.fill", 1)
	default:
		if b.err == nil {
			b.unsupported(at, "unknown", fmt.Sprintf("0xfc %d", sub), hint2)
		}
	}
}

// tableCall reads the table indices of an instruction that pays for its length.
func (b *body) tableCall(at int, opcode string, tables int) {
	for range tables {
		b.index("table", b.tables)
	}
	b.call(at, evPay, fnElements)
	b.unrestorable(opcode, at)
}

// vector reads an instruction behind 0xfd.
func (b *body) vector(at int) {
	sub := b.opcode()
	switch {
	case sub <= 11, sub == 92, sub == 93:
		b.memArg()
	case sub == 12, sub == 13: // v128.const, i8x16.shuffle
		b.bytes(16)
	case sub >= 21 && sub <= 34: // extract and replace lane
		b.u8()
	case sub >= 84 && sub <= 91: // load and store lane
		b.memArg()
		b.u8()
	case sub > 255 || vectorGap(sub):
		if b.err == nil {
			b.unsupported(at, vectorName(sub), fmt.Sprintf("0xfd %d", sub), "build without -mrelaxed-simd")
		}
	}
}
