package meter

import (
	"strconv"
	"strings"
)

// Injected function types, after the module's own.
const (
	typeVoid  = iota // () -> ()
	typeOne          // (i32) -> (i32)
	typeThree        // (i32 i32 i32) -> ()
	numTypes  = iota
)

func injectedTypes() []byte {
	return []byte{
		0x60, 0, 0,
		0x60, 1, typeI32, 1, typeI32,
		0x60, 3, typeI32, typeI32, typeI32, 0,
	}
}

// Injected functions, after the module's own.
const (
	fnCheckpoint = iota // leaves to Go, then traps or refuels
	fnGrow              // memory.grow on the memory as the guest sees it
	fnFill              // memory.fill in paid pieces
	fnCopy              // memory.copy in paid pieces
	fnBytes             // pays for a length in bytes and returns it
	fnElements          // pays for a length in table elements and returns it
	numFuncs     = iota
)

var injectedFuncTypes = [numFuncs]byte{typeVoid, typeOne, typeThree, typeThree, typeOne, typeOne}

// injectedNames appear in stack traces.
var injectedNames = [numFuncs]string{
	"tributary_checkpoint", "tributary_grow", "tributary_fill", "tributary_copy", "tributary_pay", "tributary_pay_elements",
}

// Injected globals, after the module's own.
const (
	glFuel = iota
	glReserve
	glInterrupt
	glStop
	glPages
)

func reserved(name string) bool {
	switch name {
	case FuelGlobal, ReserveGlobal, InterruptGlobal, StopGlobal, PagesGlobal:
		return true
	}
	return strings.HasPrefix(name, GlobalPrefix)
}

func (w *rewriter) emitGlobals(n uint32, own []byte) {
	fuel, reserve := w.mod.Split(w.opts.StartFuel)
	var b []byte
	b = append(appendSigned(append(b, typeI64, 1, opI64Const), int64(fuel)), opEnd)
	b = append(appendSigned(append(b, typeI64, 1, opI64Const), int64(reserve)), opEnd)
	b = append(b, typeI32, 1, opI32Const, 0, opEnd)
	b = append(b, typeI32, 1, opI32Const, 0, opEnd)
	b = append(appendSigned(append(b, typeI32, 1, opI32Const), int64(int32(w.minPages))), opEnd)
	w.emitItems(secGlobal, n, own, b, 5)
}

func (w *rewriter) emitExports(n uint32, own []byte) {
	var b []byte
	added := uint32(0)
	export := func(name string, index uint32) {
		b = appendU32(append(appendName(b, name), 3), index)
		added++
	}
	export(FuelGlobal, w.globals+glFuel)
	export(ReserveGlobal, w.globals+glReserve)
	export(InterruptGlobal, w.globals+glInterrupt)
	export(StopGlobal, w.globals+glStop)
	for _, m := range w.mutable {
		if m.name == "" {
			m.name = GlobalPrefix + strconv.Itoa(int(m.index))
			export(m.name, m.index)
		}
		w.mod.Globals = append(w.mod.Globals, m.name)
	}
	if w.hasMemory {
		export(PagesGlobal, w.globals+glPages)
		w.mod.Globals = append(w.mod.Globals, PagesGlobal)
	}
	w.emitItems(secExport, n, own, b, added)
}

// asm writes code that refers to the injected functions and globals.
type asm struct {
	b       []byte
	funcs   uint32 // index of the first injected function
	globals uint32 // index of the first injected global
	local   uint32 // index of the local that holds the fuel in a loop without calls
}

func (a *asm) op(code ...byte) *asm       { a.b = append(a.b, code...); return a }
func (a *asm) get(global uint32) *asm     { return a.u32(0x23, a.globals+global) }
func (a *asm) set(global uint32) *asm     { return a.u32(0x24, a.globals+global) }
func (a *asm) call(fn uint32) *asm        { return a.u32(0x10, a.funcs+fn) }
func (a *asm) i32(v int32) *asm           { a.b = appendSigned(append(a.b, opI32Const), int64(v)); return a }
func (a *asm) i64(v int64) *asm           { a.b = appendSigned(append(a.b, opI64Const), v); return a }
func (a *asm) u32(op byte, v uint32) *asm { a.b = appendU32(append(a.b, op), v); return a }

// Opcodes of the injected code.
const (
	opUnreachable = 0x00
	opLoop        = 0x03
	opIf          = 0x04
	opElse        = 0x05
	opEnd         = 0x0b
	opBrIf        = 0x0d
	opBrTable     = 0x0e
	opReturn      = 0x0f
	opDrop        = 0x1a
	opSelect      = 0x1b
	opLocalGet    = 0x20
	opLocalSet    = 0x21
	opLocalTee    = 0x22
	opMemorySize  = 0x3f
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI64Const    = 0x42
	opI32Eq       = 0x46
	opI32LtU      = 0x49
	opI32GtU      = 0x4b
	opI32LeU      = 0x4d
	opI64LtS      = 0x53
	opI64LeS      = 0x57
	opI64GtU      = 0x56
	opI32Add      = 0x6a
	opI32Sub      = 0x6b
	opI32ShrU     = 0x76
	opI64Add      = 0x7c
	opI64Sub      = 0x7d
	opI64Shl      = 0x86
	opI32Wrap     = 0xa7
	opI64ExtendU  = 0xad
	void          = 0x40 // block type
)

func (a *asm) getLocal() *asm { return a.u32(opLocalGet, a.local) }
func (a *asm) setLocal() *asm { return a.u32(opLocalSet, a.local) }

// count pays units from the local or the global, and calls the checkpoint if that is below zero then.
func (a *asm) count(units int64, local, check bool) *asm {
	switch {
	case !local && !check:
		return a.get(glFuel).i64(units).op(opI64Sub).set(glFuel)
	case !local:
		return a.get(glFuel).i64(units).op(opI64Sub).settle()
	case !check:
		return a.getLocal().i64(units).op(opI64Sub).setLocal()
	}
	return a.getLocal().i64(units).op(opI64Sub).setLocal().belowZero().op(opIf, void).refuelLocal().op(opEnd)
}

// belowZero leaves whether the fuel in the local is.
func (a *asm) belowZero() *asm { return a.getLocal().i64(0).op(opI64LtS) }

// refuelLocal calls the checkpoint where the fuel is in the local.
func (a *asm) refuelLocal() *asm {
	return a.getLocal().set(glFuel).call(fnCheckpoint).get(glFuel).setLocal()
}

// settle takes the new value of the fuel from the stack and calls the checkpoint if it is below zero.
func (a *asm) settle() *asm {
	return a.set(glFuel).get(glFuel).i64(0).op(opI64LtS, opIf, void).call(fnCheckpoint).op(opEnd)
}

// payLength pays for the length in a local.
func (a *asm) payLength(local byte, shift int32) *asm {
	return a.get(glFuel).op(opLocalGet, local).i32(shift).op(opI32ShrU, opI64ExtendU, opI64Sub).settle()
}

// checkpoint: the fuel is below zero here, and the missing part is taken from the reserve.
func (a *asm) checkpoint(interval int64, report bool) *asm {
	a.op(0) // no locals
	if report {
		a.i32(allPages).op(opMemorySize, 0, opI32Sub, opMemoryGrow, 0, opDrop)
	} else {
		a.i32(0).op(opMemoryGrow, 0, opDrop)
	}
	a.get(glInterrupt).op(opIf, void).i32(StopInterrupt).set(glStop).op(opUnreachable, opEnd)
	// reserve += fuel; if reserve <= 0, stop with both globals as they are.
	a.get(glReserve).get(glFuel).op(opI64Add).i64(0).op(opI64LtS, opIf, void)
	a.i32(StopFuel).set(glStop).op(opUnreachable, opEnd)
	a.get(glReserve).get(glFuel).op(opI64Add).set(glReserve)
	// fuel = min(interval, reserve); reserve -= fuel
	a.i64(interval).get(glReserve).i64(interval).get(glReserve).op(opI64LtS, opSelect).set(glFuel)
	return a.get(glReserve).get(glFuel).op(opI64Sub).set(glReserve).op(opEnd)
}

// grow: memory.grow, but pages that a restore took from the guest are given before new ones.
func (a *asm) grow(maxPages uint32) *asm {
	const delta, want = 0, 1
	a.op(1, 1, typeI64)
	a.get(glPages).op(opI64ExtendU, opLocalGet, delta, opI64ExtendU, opI64Add, opLocalTee, want)
	a.op(opMemorySize, 0, opI64ExtendU, opI64GtU, opIf, void)
	a.op(opLocalGet, want).i64(int64(maxPages)).op(opI64GtU, opIf, void).i32(-1).op(opReturn, opEnd)
	a.op(opLocalGet, want, opI32Wrap, opMemorySize, 0, opI32Sub, opMemoryGrow, 0)
	a.i32(-1).op(opI32Eq, opIf, void).i32(-1).op(opReturn, opEnd, opEnd)
	return a.get(glPages).op(opLocalGet, want, opI32Wrap).set(glPages).op(opEnd)
}

// outOfBounds leaves 1 if a local address + length, as 33 bits, is beyond the memory.
func (a *asm) outOfBounds(addr, length byte) *asm {
	a.op(opLocalGet, addr, opI64ExtendU, opLocalGet, length, opI64ExtendU, opI64Add)
	return a.op(opMemorySize, 0, opI64ExtendU).i64(16).op(opI64Shl, opI64GtU)
}

// piece sets local c to min(n, chunkBytes).
func (a *asm) piece(n, c byte) *asm {
	a.op(opLocalGet, n).i32(chunkBytes).op(opLocalGet, n).i32(chunkBytes)
	return a.op(opI32LtU, opSelect, opLocalSet, c)
}

// advance adds c to a local.
func (a *asm) advance(local, c byte) *asm {
	return a.op(opLocalGet, local, opLocalGet, c, opI32Add, opLocalSet, local)
}

// fill: the pieces of a fill that is out of bounds must not be seen, so that one runs (and traps) whole.
func (a *asm) fill() *asm {
	const dst, val, n, c = 0, 1, 2, 3
	a.op(1, 1, typeI32)
	a.outOfBounds(dst, n).op(opIf, void)
	a.op(opLocalGet, dst, opLocalGet, val, opLocalGet, n, 0xfc, 11, 0, opEnd)
	a.op(opLoop, void)
	a.piece(n, c).payLength(c, bytesPerUnitShift)
	a.op(opLocalGet, dst, opLocalGet, val, opLocalGet, c, 0xfc, 11, 0)
	a.advance(dst, c).op(opLocalGet, n, opLocalGet, c, opI32Sub, opLocalTee, n, opBrIf, 0, opEnd)
	return a.op(opEnd)
}

// copy runs forwards or backwards, so that no piece overwrites what a later one reads.
func (a *asm) copy() *asm {
	const dst, src, n, c = 0, 1, 2, 3
	all := func() { a.op(opLocalGet, dst, opLocalGet, src, opLocalGet, n, 0xfc, 10, 0, 0) }
	a.op(1, 1, typeI32)
	// Most copies are short.
	a.op(opLocalGet, n).i32(chunkBytes).op(opI32LeU, opIf, void)
	a.payLength(n, bytesPerUnitShift)
	all()
	a.op(opReturn, opEnd)
	a.outOfBounds(dst, n).op(opIf, void)
	all()
	a.op(opEnd).outOfBounds(src, n).op(opIf, void)
	all()
	a.op(opEnd)
	a.op(opLoop, void)
	a.piece(n, c).payLength(c, bytesPerUnitShift)
	a.op(opLocalGet, n, opLocalGet, c, opI32Sub, opLocalSet, n)
	a.op(opLocalGet, dst, opLocalGet, src, opI32GtU, opIf, void)
	a.op(opLocalGet, dst, opLocalGet, n, opI32Add, opLocalGet, src, opLocalGet, n, opI32Add)
	a.op(opLocalGet, c, 0xfc, 10, 0, 0, opElse)
	a.op(opLocalGet, dst, opLocalGet, src, opLocalGet, c, 0xfc, 10, 0, 0)
	a.advance(dst, c).advance(src, c).op(opEnd)
	return a.op(opLocalGet, n, opBrIf, 0, opEnd, opEnd)
}

func (a *asm) pay(shift int32) *asm {
	return a.op(0).payLength(0, shift).op(opLocalGet, 0, opEnd)
}

// injectedCode returns the bodies of the injected functions, each with its size.
func (w *rewriter) injectedCode() []byte {
	var out []byte
	body := func(build func(*asm) *asm) {
		b := build(w.asm()).b
		out = append(appendU32(out, uint32(len(b))), b...)
	}
	body(func(a *asm) *asm { return a.checkpoint(w.mod.interval, w.opts.ReportCheckpoints) })
	body(func(a *asm) *asm { return a.grow(w.maxPages) })
	body((*asm).fill)
	body((*asm).copy)
	body(func(a *asm) *asm { return a.pay(bytesPerUnitShift) })
	body(func(a *asm) *asm { return a.pay(elementsPerUnitShift) })
	return out
}

func (w *rewriter) asm() *asm {
	return &asm{funcs: uint32(len(w.funcs)), globals: w.globals}
}

func (w *rewriter) emitCode(own []byte) {
	w.emitItems(secCode, w.bodies, own, w.injectedCode(), numFuncs)
}
