package meter

import "slices"

// A tiny assembler for modules that no tool would write.

func vec(items ...[]byte) []byte {
	return append(appendU32(nil, uint32(len(items))), slices.Concat(items...)...)
}

func sec(id byte, content ...byte) []byte {
	return append(appendU32([]byte{id}, uint32(len(content))), content...)
}

func module(sections ...[]byte) []byte {
	return append(slices.Clone(header), slices.Concat(sections...)...)
}

func sized(b []byte) []byte { return append(appendU32(nil, uint32(len(b))), b...) }

func export(name string, kind, index byte) []byte { return append(appendName(nil, name), kind, index) }

var (
	voidType    = sec(secType, vec([]byte{0x60, 0, 0})...)
	oneFunction = sec(secFunction, vec([]byte{0})...)
	oneMemory   = sec(secMemory, 1, 0, 1)
)

// codeModule has one function () -> () with the body, and everything an instruction may name: a
// local, a memory, two tables, a mutable global, an element and a data segment.
func codeModule(body ...byte) []byte {
	return module(
		voidType, oneFunction,
		sec(secTable, vec([]byte{typeFuncref, 0, 1}, []byte{typeExternref, 0, 1})...),
		oneMemory,
		sec(secGlobal, vec([]byte{typeI32, 1, opI32Const, 0, opEnd})...),
		sec(secExport, vec(export("f", 0, 0))...),
		sec(secElement, vec([]byte{1, 0, 1, 0})...),
		sec(secDataCount, 1),
		sec(secCode, vec(sized(slices.Concat([]byte{1, 1, typeI32}, body, []byte{opEnd})))...),
		sec(secData, vec([]byte{1, 1, 'x'})...),
	)
}
