package meter

import "strconv"

// hiddenTypes are the types of globals whose value means nothing outside, or cannot be read.
var hiddenTypes = map[byte]string{typeV128: "v128", typeFuncref: "funcref", typeExternref: "externref"}

func (w *rewriter) globalSection() {
	n := w.u32()
	start := w.pos
	for i := uint32(0); i < n && w.err == nil; i++ {
		t := w.valueType()
		mutable := w.u8()
		if mutable > 1 {
			w.failf("global mutability %#x", mutable)
		}
		w.constExpr()
		index := w.importedGlobals + i
		if w.err != nil || mutable == 0 {
			continue
		}
		w.mutable = append(w.mutable, mutableGlobal{index: index})
		if name := hiddenTypes[t]; name != "" {
			w.unrestorable("mutable "+name, "global "+strconv.Itoa(int(index)))
		}
	}
	if w.err == nil {
		w.globals += n
		w.emitGlobals(n, w.data[start:w.end])
	}
}

// unrestorable reports a construct once, at its first place.
func (w *rewriter) unrestorable(what, where string) {
	if _, again := w.reported[what]; !again {
		w.reported[what] = struct{}{}
		w.mod.Unrestorable = append(w.mod.Unrestorable, what+" at "+where)
	}
}

// constExpr reads a constant expression of WebAssembly 2.0: one instruction and end. A global.get
// may name imported globals only, a ref.func any function of the module.
func (w *rewriter) constExpr() {
	switch op := w.u8(); op {
	case 0x41:
		w.signed(32)
	case 0x42:
		w.signed(64)
	case 0x43:
		w.bytes(4)
	case 0x44:
		w.bytes(8)
	case 0x23:
		w.index("imported global", w.importedGlobals)
	case 0xd0:
		w.refType()
	case 0xd2:
		w.index("function", uint32(len(w.funcs)))
	case 0xfd:
		if sub := w.opcode(); sub != 12 {
			w.failf("constant expression with opcode 0xfd %d", sub)
		}
		w.bytes(16)
	default:
		w.failf("constant expression with opcode %#x is not supported: build without -mextended-const", op)
	}
	if end := w.u8(); w.err == nil && end != opEnd {
		w.failf("constant expression of more than one instruction (%#x) is not supported: build without -mextended-const", end)
	}
}

func (w *rewriter) exportSection() {
	n := w.u32()
	start := w.pos
	for i := uint32(0); i < n && w.err == nil; i++ {
		name := w.name()
		kind, index := w.u8(), w.u32()
		if w.err != nil {
			return
		}
		if _, twice := w.exports[name]; twice {
			w.failf("export %q is repeated", name)
			return
		}
		if reserved(name) {
			w.failf("export %q is a name reserved for the fuel meter: rename it", name)
			return
		}
		w.checkExport(name, kind, index)
		if w.err != nil {
			return
		}
		e := Extern{Name: name, Kind: Kind(kind)}
		if e.Kind == Function {
			e.typ = w.funcs[index]
		}
		w.exports[name] = e
	}
	if w.err == nil {
		w.emitExports(n, w.data[start:w.end])
	}
}

func (w *rewriter) checkExport(name string, kind byte, index uint32) {
	var space uint32
	switch kind {
	case 0:
		space = uint32(len(w.funcs))
	case 1:
		space = w.tables
	case 2:
		if w.hasMemory {
			space = 1
		}
	case 3:
		space = w.globals
		for i := range w.mutable {
			if m := &w.mutable[i]; m.index == index && m.name == "" {
				m.name = name
			}
		}
	}
	if index >= space {
		w.failf("export %q of kind %d has index %d, but there are %d", name, kind, index, space)
	}
}

func (w *rewriter) elementSection() {
	n := w.u32()
	for i := uint32(0); i < n && w.err == nil; i++ {
		// Bit 0: passive or declarative; bit 1: a table index, or declarative; bit 2: expressions.
		flag := w.u32()
		if flag > 7 {
			w.failf("element segment %d of kind %d", i, flag)
			return
		}
		if flag&1 == 0 {
			if flag&2 != 0 {
				w.index("table", w.tables)
			}
			w.constExpr()
		}
		expressions := flag&4 != 0
		if flag&3 != 0 {
			if expressions {
				w.refType()
			} else if kind := w.u8(); kind != 0 {
				w.failf("element segment %d of element kind %d", i, kind)
			}
		}
		items := w.u32()
		for j := uint32(0); j < items && w.err == nil; j++ {
			if expressions {
				w.constExpr()
			} else {
				w.index("function", uint32(len(w.funcs)))
			}
		}
	}
	w.elements = n
}

func (w *rewriter) dataSection() {
	n := w.u32()
	for i := uint32(0); i < n && w.err == nil; i++ {
		flag := w.u32()
		if flag > 2 {
			w.failf("data segment %d of kind %d", i, flag)
			return
		}
		if flag == 2 && w.u32() != 0 {
			w.failf("data segment %d is not for memory 0", i)
		}
		if flag != 1 {
			if !w.hasMemory {
				w.failf("data segment %d needs a memory, but there is none", i)
			}
			w.constExpr()
		}
		w.bytes(w.u32())
	}
}
