package meter

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

// sectionOrder is the order that the specification demands of the non-custom sections.
var sectionOrder = [...]byte{
	secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart,
	secElement, secDataCount, secCode, secData,
}

// rewriter reads the sections in order and appends each to out as soon as it is understood, so
// everything that a section's rewriting needs has been read before. Existing indices never shift:
// injected types, functions and globals follow the module's own, and any index of the module that
// would reach them is refused (the guest must not be able to set its own fuel).
type rewriter struct {
	reader
	opts Options
	out  []byte
	mod  *Module

	types           []funcType
	funcs           []uint32 // type index of each function, imported ones first
	importedFuncs   uint32
	bodies          uint32
	tables          uint32
	hasMemory       bool
	minPages        uint32
	maxPages        uint32 // what memory.grow may reach; 65536 unless the declared maximum is lifted
	globals         uint32
	importedGlobals uint32
	mutable         []mutableGlobal
	elements        uint32
	imports         []Extern
	exports         map[string]Extern
	names           reader              // the first name section
	reported        map[string]struct{} // what Unrestorable holds
}

type funcType struct {
	params, results uint32
	at              int // where the parameters begin in the module
}

func (t funcType) arity() uint32 { return t.params + t.results }

type mutableGlobal struct {
	index uint32
	name  string // its export; empty until one is found
}

// Rewrite returns the module with metering injected. It refuses, naming the place and what to do,
// what is not WebAssembly 2.0, what it cannot meter, and what would let a guest reach the meter.
// It checks structure and indices but not types: the runtime validates the result. Time and
// memory are linear in the size of the module, whatever counts it claims.
func Rewrite(module []byte, o Options) (*Module, error) {
	switch {
	case o.Interval > MaxInterval:
		return nil, fmt.Errorf("meter: interval %d is over %d", o.Interval, MaxInterval)
	case len(module) > maxModule:
		return nil, fmt.Errorf("meter: the module has %d bytes, at most %d are possible: strip it (Go: -ldflags=-s -w)", len(module), maxModule)
	case o.Interval == 0:
		o.Interval = MaxInterval
	}
	if o.StartFuel == 0 {
		o.StartFuel = DefaultStartFuel
	}
	if o.MaxTableElements == 0 {
		o.MaxTableElements = DefaultTableElements
	}
	w := &rewriter{
		reader:   reader{data: module, end: len(module)},
		opts:     o,
		out:      make([]byte, 0, len(module)+len(module)/8+1024),
		mod:      &Module{interval: int64(o.Interval)},
		maxPages: allPages,
		exports:  map[string]Extern{},
		reported: map[string]struct{}{},
	}
	w.module()
	if w.err != nil {
		return nil, fmt.Errorf("meter: %w", w.err)
	}
	w.mod.Bytes = w.out
	w.mod.Interface = &Interface{Imports: w.imports, Exports: w.exports, Memory: w.hasMemory, MinPages: w.minPages, types: w.types,
		data: w.data}
	return w.mod, nil
}

func (w *rewriter) module() {
	next := 0 // position in sectionOrder of the first section not yet seen
	w.eachSection(func(id byte, _ int) {
		if id == secCustom {
			w.custom()
		} else {
			next = w.section(id, next)
		}
		if w.err == nil && w.pos != w.end {
			w.failf("section %d has %d bytes too many", id, w.end-w.pos)
		}
	})
	w.missing(next, len(sectionOrder))
	if n := uint32(len(w.funcs)) - w.importedFuncs; w.err == nil && w.bodies != n {
		w.failf("%d functions are declared but %d have code", n, w.bodies)
	}
	w.emitNames()
}

// section rewrites one section and returns the next position in sectionOrder.
func (w *rewriter) section(id byte, next int) int {
	if id == secTag {
		w.failf("section tag (13) is not supported: build without exceptions (-fno-wasm-exceptions)")
		return next
	}
	at := bytes.IndexByte(sectionOrder[:], id)
	if at < next {
		w.failf("section %d is unknown, repeated or out of order", id)
		return next
	}
	w.missing(next, at)
	start := w.pos
	verbatim := true
	switch id {
	case secType:
		w.typeSection()
		verbatim = false
	case secImport:
		w.importSection()
	case secFunction:
		w.functionSection()
		verbatim = false
	case secTable:
		w.tableSection()
		verbatim = false
	case secMemory:
		w.memorySection()
		verbatim = false
	case secGlobal:
		w.globalSection()
		verbatim = false
	case secExport:
		w.exportSection()
		verbatim = false
	case secStart:
		w.index("function", uint32(len(w.funcs)))
	case secElement:
		w.elementSection()
	case secDataCount:
		w.u32()
	case secCode:
		w.codeSection()
		verbatim = false
	case secData:
		w.dataSection()
	}
	if verbatim && w.err == nil {
		w.emit(id, w.data[start:w.end])
	}
	return at + 1
}

// missing emits the sections of sectionOrder[from:to] that the module lacks and the meter needs.
func (w *rewriter) missing(from, to int) {
	for _, id := range sectionOrder[from:to] {
		if w.err != nil {
			return
		}
		switch id {
		case secType:
			w.emitItems(id, 0, nil, injectedTypes(), numTypes)
		case secFunction:
			w.emitFunctions(nil)
		case secMemory:
			w.emit(id, []byte{1, 1, 0, 0}) // one memory, without a page: memory.grow 0 needs it
		case secGlobal:
			w.emitGlobals(0, nil)
		case secExport:
			w.emitExports(0, nil)
		case secCode:
			w.emitCode(nil)
		}
	}
}

func (w *rewriter) emit(id byte, payload []byte) {
	w.out = appendU32(append(w.out, id), uint32(len(payload)))
	w.out = append(w.out, payload...)
}

// emitItems emits a section that is a vector: the module's own n items, then the injected ones.
func (w *rewriter) emitItems(id byte, n uint32, own, injected []byte, added uint32) {
	count := appendU32(nil, n+added)
	w.out = appendU32(append(w.out, id), uint32(len(count)+len(own)+len(injected)))
	w.out = append(append(append(w.out, count...), own...), injected...)
}

// valueType reads one and refuses what WebAssembly 2.0 does not know.
func (w *rewriter) valueType() byte {
	t := w.u8()
	switch t {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, typeFuncref, typeExternref:
	default:
		w.failf("value type %#x is not supported: build for WebAssembly 2.0", t)
	}
	return t
}

const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

func (w *rewriter) refType() {
	if t := w.valueType(); w.err == nil && t != typeFuncref && t != typeExternref {
		w.failf("type %#x is not a reference type", t)
	}
}

func (w *rewriter) typeSection() {
	n := w.u32()
	start := w.pos
	for i := uint32(0); i < n && w.err == nil; i++ {
		if form := w.u8(); form != 0x60 {
			w.failf("type %d has form %#x, not a function: build for WebAssembly 2.0 (no GC types)", i, form)
		}
		t := funcType{at: w.pos}
		for _, count := range []*uint32{&t.params, &t.results} {
			*count = w.u32()
			for j := uint32(0); j < *count && w.err == nil; j++ {
				w.valueType()
			}
			if *count > maxArity {
				w.failf("type %d has %d parameters or results, at most %d are possible: pass a pointer to them", i, *count, maxArity)
			}
		}
		w.types = append(w.types, t)
	}
	if w.err == nil {
		w.emitItems(secType, n, w.data[start:w.end], injectedTypes(), numTypes)
	}
}

func (w *rewriter) importSection() {
	n := w.u32()
	for i := uint32(0); i < n && w.err == nil; i++ {
		from, name := w.name(), w.name()
		switch kind := w.u8(); kind {
		case 0:
			t := w.index("type", uint32(len(w.types)))
			w.funcs = append(w.funcs, t)
			w.importedFuncs++
			w.imports = append(w.imports, Extern{Module: from, Name: name, Kind: Function, typ: t})
		case 3:
			w.valueType()
			if w.u8() != 0 {
				w.failf("import %q %q is a mutable global, which the host cannot restore", from, name)
			}
			w.globals++
			w.importedGlobals++
			w.imports = append(w.imports, Extern{Module: from, Name: name, Kind: Global})
		default:
			w.failf("import %q %q of kind %d is not supported: a plugin owns its memory and tables", from, name, kind)
		}
	}
}

func (w *rewriter) functionSection() {
	n := w.u32()
	start := w.pos
	for i := uint32(0); i < n && w.err == nil; i++ {
		w.funcs = append(w.funcs, w.index("type", uint32(len(w.types))))
	}
	if w.err == nil {
		w.emitFunctions(w.data[start:w.end])
	}
}

func (w *rewriter) emitFunctions(own []byte) {
	var injected []byte
	for _, t := range injectedFuncTypes {
		injected = appendU32(injected, uint32(len(w.types))+uint32(t))
	}
	w.emitItems(secFunction, uint32(len(w.funcs))-w.importedFuncs, own, injected, numFuncs)
}

// limits copies limits with the maximum cut to most (0: not) and returns both; no maximum is 2^32-1.
func (w *rewriter) limits(out []byte, what string, most uint32) (_ []byte, low, high uint32) {
	flag := w.u8()
	if flag > 1 {
		w.failf("%s limits %#x are not supported: build without threads and memory64", what, flag)
	}
	low = w.u32()
	high = most
	if flag == 1 {
		high = w.u32()
		if most > 0 && high > most && low <= most {
			high = most
		}
	}
	switch {
	case w.err != nil:
	case flag == 1 && high < low:
		w.failf("%s starts with %d, over its maximum of %d", what, low, high)
	case most > 0 && low > most:
		w.failf("%s starts with %d but only %d are allowed", what, low, most)
	}
	if flag == 0 && most == 0 {
		return appendU32(append(out, 0), low), low, math.MaxUint32
	}
	return appendU32(appendU32(append(out, 1), low), high), low, high
}

func (w *rewriter) tableSection() {
	w.tables = w.u32()
	var out []byte
	for i := uint32(0); i < w.tables && w.err == nil; i++ {
		start := w.pos
		w.refType()
		if w.err == nil {
			out, _, _ = w.limits(append(out, w.data[start]), "table "+strconv.Itoa(int(i)), w.opts.MaxTableElements)
		}
	}
	if w.err == nil {
		w.emitItems(secTable, w.tables, out, nil, 0)
	}
}

func (w *rewriter) memorySection() {
	n := w.u32()
	if n == 0 && w.err == nil {
		w.emit(secMemory, []byte{1, 1, 0, 0})
		return
	}
	if n > 1 {
		w.failf("%d memories are not supported: build without multi-memory", n)
		return
	}
	out, low, high := w.limits([]byte{1}, "memory", w.opts.MaxMemoryPages)
	w.hasMemory, w.minPages = true, low
	if w.opts.ReportCheckpoints {
		w.maxPages = min(high, allPages)
		out = appendU32(appendU32([]byte{1, 1}, low), allPages)
	}
	if w.err == nil {
		w.emit(secMemory, out)
	}
}
