package meter

import "fmt"

// place names an instruction in errors: the offset is that of wasm-objdump -d.
func (b *body) place(at int) string {
	return fmt.Sprintf("function %d offset %#x", b.fn, at)
}

func (b *body) failAt(at int, format string, args ...any) {
	if b.err == nil {
		b.fail(fmt.Errorf(format+" at %s", append(args, b.place(at))...))
	}
}

func (b *body) unsupported(at int, name, code, hint string) {
	b.fail(fmt.Errorf("opcode %s (%s) at %s is not supported: %s", name, code, b.place(at), hint))
}

// unrestorable reports the first use of an opcode.
func (b *body) unrestorable(opcode string, at int) {
	b.rewriter.unrestorable(opcode, b.place(at))
}

// index is reader.index with the place in its error.
func (b *body) index(what string, n uint32) uint32 {
	at := b.pos
	i := b.u32()
	if b.err == nil && i >= n {
		b.failAt(at, "%s index %d of %d", what, i, n)
	}
	return i
}

// blockType returns how many parameters and results the block has.
func (b *body) blockType() (arity uint32) {
	at := b.pos
	switch t := b.signed(33); {
	case t >= 0:
		if t >= int64(len(b.types)) {
			b.failAt(at, "type index %d of %d", t, len(b.types))
			return 0
		}
		return b.types[t].arity()
	case t != void-0x80 && b.err == nil:
		b.pos = at // one byte, not any signed number
		b.valueType()
		return 1
	}
	return 0
}

// memory reads a memory index, which must be the byte 0.
func (b *body) memory() {
	at := b.pos
	if i := b.u8(); i != 0 || !b.hasMemory {
		b.failAt(at, "memory index %d, but there is no such memory (build without multi-memory)", i)
	}
}

func (b *body) memArg() {
	at := b.pos
	align := b.u32()
	b.u32()
	if align >= 32 || !b.hasMemory {
		b.failAt(at, "memory access, but there is no such memory (build without multi-memory and memory64)")
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
