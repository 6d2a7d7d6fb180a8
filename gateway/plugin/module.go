package plugin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// moduleInfo is what the host must know of a module before it compiles it.
type moduleInfo struct {
	imports   []importInfo
	exports   map[string]exportInfo
	memoryMin uint64 // pages of 64 KiB
	memories  int    // imported ones included
}

type importInfo struct {
	module, name string
	kind         byte
	sig          string // of a function
}

type exportInfo struct {
	kind byte
	sig  string
}

// The kinds of imports and exports (WebAssembly core specification 2.0,
// section 5.5.5) and the sections that are read here (5.5.2).
const (
	kindFunc, kindTable, kindMemory, kindGlobal = 0, 1, 2, 3

	secCustom, secType, secImport, secFunction, secMemory, secExport = 0, 1, 2, 3, 5, 7
)

const wasmHeader = "\x00asm\x01\x00\x00\x00"

var errTruncated = errors.New("the module is cut off")

// readModule reads the parts of a module that the ABI is about. It checks only
// what it reads: the compiler validates the whole module.
func readModule(wasm []byte) (*moduleInfo, error) {
	info := &moduleInfo{exports: map[string]exportInfo{}}
	var types []string
	var funcs []uint32 // type index by function index
	err := eachSection(wasm, func(id byte, _, body []byte) error {
		r := &wasmReader{b: body}
		switch id {
		case secType:
			r.vector(func() { types = append(types, r.funcType()) })
		case secImport:
			r.vector(func() { funcs = info.readImport(r, types, funcs) })
		case secFunction:
			r.vector(func() { funcs = append(funcs, r.u32()) })
		case secMemory:
			r.vector(func() {
				info.memories++
				info.memoryMin = r.limits()
			})
		case secExport:
			r.vector(func() {
				name, kind, index := r.name(), r.byte(), r.u32()
				e := exportInfo{kind: kind}
				if kind == kindFunc {
					e.sig = signature(types, funcs, index)
				}
				info.exports[name] = e
			})
		}
		return r.err
	})
	return info, err
}

func (m *moduleInfo) readImport(r *wasmReader, types []string, funcs []uint32) []uint32 {
	im := importInfo{module: r.name(), name: r.name(), kind: r.byte()}
	switch im.kind {
	case kindFunc:
		t := r.u32()
		funcs = append(funcs, t)
		im.sig = signature(types, funcs, uint32(len(funcs)-1))
	case kindTable:
		r.byte()
		r.limits()
	case kindMemory:
		m.memories++
		r.limits()
	case kindGlobal:
		r.byte()
		r.byte()
	default:
		r.fail(fmt.Errorf("import %s.%s is of the unknown kind %d", im.module, im.name, im.kind))
	}
	m.imports = append(m.imports, im)
	return funcs
}

// signature returns a function's type as text, such as "(i32, i32) → i64".
func signature(types []string, funcs []uint32, index uint32) string {
	if uint64(index) >= uint64(len(funcs)) || uint64(funcs[index]) >= uint64(len(types)) {
		return "of an unknown type"
	}
	return types[funcs[index]]
}

// sigText writes a signature in the form of funcType from one letter per value:
// i for i32, I for i64.
func sigText(params, results string) string {
	list := func(s string) string {
		return "(" + strings.Join(strings.Split(strings.NewReplacer("I", "i64,", "i", "i32,").Replace(s), ",")[:len(s)], ", ") + ")"
	}
	return list(params) + " → " + list(results)
}

// eachSection calls fn for every section with its whole encoding, header
// included, and its body.
func eachSection(wasm []byte, fn func(id byte, whole, body []byte) error) error {
	if len(wasm) < len(wasmHeader) || string(wasm[:len(wasmHeader)]) != wasmHeader {
		return errors.New("this is no WebAssembly module (version 1)")
	}
	r := &wasmReader{b: wasm[len(wasmHeader):]}
	for len(r.b) > 0 {
		start := r.b
		id := r.byte()
		body := r.bytes(r.u32())
		if r.err != nil {
			return r.err
		}
		if err := fn(id, start[:len(start)-len(r.b)], body); err != nil {
			return err
		}
	}
	return nil
}

// wasmReader reads the binary format; the first error stays.
type wasmReader struct {
	b   []byte
	err error
}

func (r *wasmReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *wasmReader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errTruncated)
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *wasmReader) u32() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		r.fail(errTruncated)
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *wasmReader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.fail(errTruncated)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *wasmReader) name() string { return string(r.bytes(r.u32())) }

func (r *wasmReader) vector(item func()) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		item()
	}
}

// limits returns the minimum.
func (r *wasmReader) limits() uint64 {
	flags, low := r.byte(), r.u32()
	switch flags {
	case 0:
	case 1:
		r.u32()
	default:
		r.fail(fmt.Errorf("a shared or 64-bit memory or table cannot be used (limits flag %#x)", flags))
	}
	return uint64(low)
}

func (r *wasmReader) funcType() string {
	if b := r.byte(); b != 0x60 {
		r.fail(fmt.Errorf("type form %#x is not part of WebAssembly 2.0", b))
		return ""
	}
	list := func() string {
		var names []string
		r.vector(func() { names = append(names, valueType(r.byte())) })
		return "(" + strings.Join(names, ", ") + ")"
	}
	params := list()
	return params + " → " + list()
}

func valueType(b byte) string {
	switch b {
	case 0x7f:
		return "i32"
	case 0x7e:
		return "i64"
	case 0x7d:
		return "f32"
	case 0x7c:
		return "f64"
	case 0x7b:
		return "v128"
	case 0x70:
		return "funcref"
	case 0x6f:
		return "externref"
	}
	return fmt.Sprintf("type %#x", b)
}
