package meter

import "fmt"

// body is the rewriting of one function: the parts that are not copied are collected while the
// instructions are read, because the weight of a loop is known only at its end.
type body struct {
	*rewriter
	fn      uint32 // index of the function
	locals  uint32 // with parameters
	edits   []edit // by position
	regions []region
	scratch []byte
	blocks  []bool // open blocks around the current instruction; true for loops
}

// region is straight code that one count pays for: the function, or the part of a loop that is in
// no inner loop. Open regions are a stack.
type region struct {
	edit  int // the count in edits
	units int64
}

// edit puts injected code in the place of skip bytes.
type edit struct {
	from  uint32
	skip  uint8
	kind  uint8 // an injected function to call, or one of the kinds below
	units int64 // of editCount
}

const (
	editCount = numFuncs + iota // count units of fuel
	editPages                   // push the size of the memory
)

func (w *rewriter) codeSection() {
	n := w.u32()
	if declared := uint32(len(w.funcs)) - w.importedFuncs; w.err == nil && n != declared {
		w.failf("%d functions are declared but %d have code", declared, n)
		return
	}
	own := make([]byte, 0, w.end-w.pos+(w.end-w.pos)/8)
	b := &body{rewriter: w}
	for i := uint32(0); i < n && w.err == nil; i++ {
		size := w.u32()
		if uint64(size) > uint64(w.end-w.pos) {
			w.failf("function %d is longer than its section", w.importedFuncs+i)
			return
		}
		outer, start := w.end, w.pos
		w.end = w.pos + int(size)
		b.read(w.importedFuncs + i)
		if w.err == nil && w.pos != w.end {
			w.failf("function %d has %d bytes after its end", b.fn, w.end-w.pos)
		}
		if w.err != nil {
			return
		}
		own = b.write(own, start, w.end)
		w.end = outer
	}
	w.bodies = n
	if w.err == nil {
		w.emitCode(own)
	}
}

// read decodes a function up to its last end.
func (b *body) read(fn uint32) {
	b.fn = fn
	b.edits, b.regions, b.blocks = b.edits[:0], b.regions[:0], b.blocks[:0]
	b.locals = b.types[b.funcs[fn]].params
	groups := b.u32()
	for i := uint32(0); i < groups && b.err == nil; i++ {
		n := b.u32()
		b.valueType()
		if n > maxLocals || b.locals+n > maxLocals {
			b.failf("function %d has more than %d locals", fn, maxLocals)
			return
		}
		b.locals += n
	}
	b.open(false)
	b.enter(1 + int64(b.locals))
	for len(b.blocks) > 0 && b.err == nil {
		b.instruction()
	}
}

// open and close keep track of blocks.
func (b *body) open(loop bool) { b.blocks = append(b.blocks, loop) }

// enter starts a region that is paid for at the current position.
func (b *body) enter(units int64) {
	b.regions = append(b.regions, region{edit: len(b.edits), units: units})
	b.inject(b.pos, editCount)
	b.mod.Checkpoints++
}

// inject replaces the bytes from the given position to the current one.
func (b *body) inject(from int, kind uint8) {
	b.edits = append(b.edits, edit{from: uint32(from), skip: uint8(b.pos - from), kind: kind})
}

// before injects a call at a position that has been read already.
func (b *body) before(at int, fn uint8) {
	b.edits = append(b.edits, edit{from: uint32(at), kind: fn})
}

func (b *body) leave() {
	r := b.regions[len(b.regions)-1]
	b.edits[r.edit].units = r.units
	b.regions = b.regions[:len(b.regions)-1]
}

// charge adds units to the innermost region.
func (b *body) charge(units int64) { b.regions[len(b.regions)-1].units += units }

func (b *body) close() {
	last := len(b.blocks) - 1
	if b.blocks[last] || last == 0 {
		b.leave()
	}
	b.blocks = b.blocks[:last]
}

// write appends the function, whose code is data[start:end], with its size.
func (b *body) write(out []byte, start, end int) []byte {
	a := b.asm()
	a.b = b.scratch[:0]
	at := start
	for _, e := range b.edits {
		a.op(b.data[at:e.from]...)
		switch e.kind {
		case editCount:
			a.count(e.units)
		case editPages:
			a.get(glPages)
		default:
			a.call(uint32(e.kind))
		}
		at = int(e.from) + int(e.skip)
	}
	a.op(b.data[at:end]...)
	b.scratch = a.b
	return append(appendU32(out, uint32(len(a.b))), a.b...)
}

// unrestorable reports the first use of an opcode.
func (b *body) unrestorable(opcode string, at int) {
	b.rewriter.unrestorable(opcode, b.place(at))
}

// place names the current instruction in errors.
func (b *body) place(at int) string {
	return fmt.Sprintf("function %d offset %#x", b.fn, at)
}

func (b *body) unsupported(at int, name, code, hint string) {
	b.fail(fmt.Errorf("opcode %s (%s) at %s is not supported: %s", name, code, b.place(at), hint))
}

// instruction reads one instruction, charges it and records its edits.
func (b *body) instruction() {
	at := b.pos
	op := b.u8()
	if b.err != nil {
		return
	}
	b.charge(1)
	switch {
	case op == 0x02 || op == opIf:
		b.blockType()
		b.open(false)
	case op == opLoop:
		b.blockType()
		b.open(true)
		b.enter(1)
	case op == opEnd:
		b.close()
	case op == opElse || op <= 0x01 || op == opReturn || op == opDrop || op == opSelect:
	case op == 0x0c || op == opBrIf:
		b.index("label", uint32(len(b.blocks)))
	case op == 0x0e:
		n := b.u32()
		for i := uint32(0); i < n && b.err == nil; i++ {
			b.index("label", uint32(len(b.blocks)))
		}
		b.index("label", uint32(len(b.blocks)))
	case op == 0x10:
		if b.index("function", uint32(len(b.funcs))) < b.importedFuncs {
			b.charge(HostCallUnits)
		}
	case op == 0x11:
		b.index("type", uint32(len(b.types)))
		b.index("table", b.tables)
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
	case op == opMemorySize:
		b.memory()
		b.inject(at, editPages)
	case op == opMemoryGrow:
		b.memory()
		b.charge(growUnits)
		b.inject(at, fnGrow)
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
	case op == 0xfc:
		b.miscellaneous(at)
	case op == 0xfd:
		b.vector(at)
	default:
		b.refuse(at, op)
	}
}

// index is reader.index with the place in its error.
func (b *body) index(what string, n uint32) uint32 {
	at := b.pos
	i := b.u32()
	if b.err == nil && i >= n {
		b.fail(fmt.Errorf("%s index %d at %s, but there are %d", what, i, b.place(at), n))
	}
	return i
}

func (b *body) blockType() {
	at := b.pos
	switch t := b.signed(33); {
	case t >= 0:
		if t >= int64(len(b.types)) {
			b.fail(fmt.Errorf("type index %d at %s, but there are %d", t, b.place(at), len(b.types)))
		}
	case t != void-0x80:
		b.pos = at // one byte, not any signed number
		b.valueType()
	}
}

// memory reads a memory index, which must be the byte 0.
func (b *body) memory() {
	at := b.pos
	if i := b.u8(); b.err == nil && (i != 0 || !b.hasMemory) {
		b.fail(fmt.Errorf("memory index %d at %s, but there is no such memory: build without multi-memory", i, b.place(at)))
	}
}

func (b *body) memArg() {
	at := b.pos
	align := b.u32()
	b.u32()
	if b.err == nil && (align >= 32 || !b.hasMemory) {
		b.fail(fmt.Errorf("memory access at %s needs a memory that is not there: build without multi-memory and memory64", b.place(at)))
	}
}

// miscellaneous reads an instruction behind 0xfc.
func (b *body) miscellaneous(at int) {
	sub := b.u32()
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
	case 8: // memory.init
		b.u32()
		b.memory()
		b.before(at, fnBytes)
	case 9:
		b.u32()
		b.unrestorable("data.drop", at)
	case 10:
		b.memory()
		b.memory()
		b.inject(at, fnCopy)
	case 11:
		b.memory()
		b.inject(at, fnFill)
	case 12:
		b.index("element segment", b.elements)
		b.index("table", b.tables)
		b.before(at, fnElements)
		b.unrestorable("table.init", at)
	case 13:
		b.index("element segment", b.elements)
		b.unrestorable("elem.drop", at)
	case 14:
		b.index("table", b.tables)
		b.index("table", b.tables)
		b.before(at, fnElements)
		b.unrestorable("table.copy", at)
	case 15:
		b.index("table", b.tables)
		b.charge(growUnits)
		b.unrestorable("table.grow", at)
	case 16:
		b.index("table", b.tables)
	case 17:
		b.index("table", b.tables)
		b.before(at, fnElements)
		b.unrestorable("table.fill", at)
	default:
		if b.err == nil {
			b.unsupported(at, "unknown", fmt.Sprintf("0xfc %d", sub), "build for WebAssembly 2.0")
		}
	}
}

// vector reads an instruction behind 0xfd.
func (b *body) vector(at int) {
	sub := b.u32()
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

// vectorGap tells the codes below 256 that no instruction of WebAssembly 2.0 has.
func vectorGap(sub uint32) bool {
	switch sub {
	case 0x9a, 0xa2, 0xa5, 0xa6, 0xaf, 0xb0, 0xb2, 0xb3, 0xb4, 0xbb, 0xc2, 0xc5, 0xc6,
		0xcf, 0xd0, 0xd2, 0xd3, 0xd4, 0xe2, 0xee:
		return true
	}
	return false
}
