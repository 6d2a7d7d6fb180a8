package meter

import (
	"slices"
	"strings"
)

// Custom sections that hold code offsets would lie about the rewritten code.
var offsetSections = []string{".debug_", "metadata.code.", "reloc."}

func (w *rewriter) custom() {
	start := w.pos
	name := w.name()
	body := w.pos
	data := w.bytes(uint32(w.end - w.pos))
	if w.err != nil {
		return
	}
	w.mod.Custom = append(w.mod.Custom, CustomSection{Name: name, Data: data})
	offsets := slices.ContainsFunc(offsetSections, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	switch {
	case offsets:
	case name == "name":
		if w.names.data == nil {
			w.names = reader{data: w.data, pos: body, end: w.end}
		}
	default:
		w.emit(secCustom, w.data[start:w.end])
	}
}

const functionNames = 1 // subsection of the name section

// emitNames writes what a stack trace uses of the name section, and the names of the injected
// functions. A malformed one is left out: a runtime would believe its counts.
func (w *rewriter) emitNames() {
	r := &w.names
	for r.more() {
		id := r.u8()
		size := r.u32()
		if r.err != nil || uint64(size) > uint64(r.end-r.pos) {
			return
		}
		sub := reader{data: r.data, pos: r.pos, end: r.pos + int(size)}
		r.pos = sub.end
		if id == functionNames {
			w.emitFunctionNames(&sub)
			return
		}
	}
}

func (w *rewriter) emitFunctionNames(r *reader) {
	n := r.u32()
	start := r.pos
	last := int64(-1)
	for i := uint32(0); i < n && r.err == nil; i++ {
		index := r.index("function", uint32(len(w.funcs)))
		if int64(index) <= last {
			r.failf("function names are not in order")
		}
		last = int64(index)
		r.name()
	}
	if r.err != nil || r.pos != r.end {
		return
	}
	own := r.data[start:r.end]
	count := appendU32(nil, n+numFuncs)
	var injected []byte
	for i, name := range injectedNames {
		injected = appendName(appendU32(injected, uint32(len(w.funcs)+i)), name)
	}
	size := len(count) + len(own) + len(injected)
	out := appendU32(append(appendName(nil, "name"), functionNames), uint32(size))
	w.emit(secCustom, slices.Concat(out, count, own, injected))
}
