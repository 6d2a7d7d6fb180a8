package meter

import (
	"bytes"
	"errors"
	"strings"
)

// Interface is what a module imports and exports. It is for one goroutine and keeps the module's bytes.
type Interface struct {
	Imports []Extern          // in order
	Exports map[string]Extern // by name; of the module itself, without what is injected
	// Memory says whether the module declares a memory, and MinPages how many pages of 64 KiB it
	// has at the start.
	Memory   bool
	MinPages uint32

	types []funcType
	data  []byte
}

// Extern is one import or export.
type Extern struct {
	Module string // of an import
	Name   string
	Kind   Kind
	typ    uint32 // index of a function's type
}

// Kind is what an import or export is (WebAssembly core specification 2.0, section 5.5.5).
type Kind byte

// The kinds of externs.
const (
	Function Kind = iota
	Table
	Memory
	Global
)

// Describe returns what an extern is, such as "function (i32, i32) → i64" or "memory".
func (x *Interface) Describe(e Extern) string {
	switch e.Kind {
	case Function:
		return "function " + x.Signature(e)
	case Table:
		return "table"
	case Memory:
		return "memory"
	}
	return "global"
}

// Signature returns the type of a function, such as "(i32, i32) → i64".
func (x *Interface) Signature(e Extern) string {
	r := reader{data: x.data, pos: x.types[e.typ].at, end: len(x.data)}
	list := func() string {
		names := make([]string, r.u32())
		for i := range names {
			names[i] = valueTypeName(r.u8())
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	params := list()
	return params + " → " + list()
}

func valueTypeName(t byte) string {
	switch t {
	case typeI32:
		return "i32"
	case typeI64:
		return "i64"
	case 0x7d:
		return "f32"
	case 0x7c:
		return "f64"
	case typeV128:
		return "v128"
	case typeFuncref:
		return "funcref"
	}
	return "externref"
}

var header = []byte("\x00asm\x01\x00\x00\x00")

// eachSection calls fn with the reader on the body of each section, which begins with its id at start.
func (w *rewriter) eachSection(fn func(id byte, start int)) {
	if !bytes.HasPrefix(w.data, header) {
		w.fail(errors.New("this is no WebAssembly module of version 1 (a component has to be lowered to a core module)"))
		return
	}
	w.pos = len(header)
	w.out = append(w.out, header...)
	for w.more() {
		start := w.pos
		id := w.u8()
		size := w.u32()
		if w.err != nil {
			return
		}
		if uint64(size) > uint64(w.end-w.pos) {
			w.failf("section %d is longer than the module, which is cut off", id)
			return
		}
		outer := w.end
		w.end = w.pos + int(size)
		fn(id, start)
		if w.err == nil {
			w.pos = w.end
		}
		w.end = outer
	}
}

// SetCustom returns a module with a custom section of that name at its end, in place of those that it
// has. It reads no other section.
func SetCustom(module []byte, name string, content []byte) ([]byte, error) {
	w := &rewriter{reader: reader{data: module, end: len(module)}, out: make([]byte, 0, len(module)+len(name)+len(content)+16)}
	w.eachSection(func(id byte, start int) {
		if id == secCustom {
			body := w.reader
			if body.name() == name && body.err == nil {
				return
			}
		}
		w.out = append(w.out, w.data[start:w.end]...)
	})
	if w.err != nil {
		return nil, w.err
	}
	w.emit(secCustom, append(appendName(nil, name), content...))
	return w.out, nil
}
