package meter

import "fmt"

const (
	hintTail    = "build without -mtail-call"
	hintThrow   = "build without exceptions (-fno-wasm-exceptions)"
	hintGC      = "build for WebAssembly 2.0 (no GC types, no typed function references)"
	hint2       = "build for WebAssembly 2.0"
	hintThreads = "build without threads (-mno-atomics, no -pthread)"
)

var refusedOpcodes = map[byte]struct{ name, hint string }{
	0x06: {"try", hintThrow},
	0x07: {"catch", hintThrow},
	0x08: {"throw", hintThrow},
	0x09: {"rethrow", hintThrow},
	0x0a: {"throw_ref", hintThrow},
	0x12: {"return_call", hintTail},
	0x13: {"return_call_indirect", hintTail},
	0x14: {"call_ref", hintGC},
	0x15: {"return_call_ref", hintTail},
	0x18: {"delegate", hintThrow},
	0x19: {"catch_all", hintThrow},
	0x1f: {"try_table", hintThrow},
	0xd3: {"ref.eq", hintGC},
	0xd4: {"ref.as_non_null", hintGC},
	0xd5: {"br_on_null", hintGC},
	0xd6: {"br_on_non_null", hintGC},
}

// refuse ends with an error that names the opcode.
func (b *body) refuse(at int, op byte) {
	code := fmt.Sprintf("%#x", op)
	switch r, known := refusedOpcodes[op]; {
	case known:
		b.unsupported(at, r.name, code, r.hint)
	case op == 0xfb:
		if sub := b.u32(); b.err == nil {
			b.unsupported(at, gcName(sub), fmt.Sprintf("0xfb %d", sub), hintGC)
		}
	case op == 0xfe:
		if sub := b.u32(); b.err == nil {
			b.unsupported(at, atomicName(sub), fmt.Sprintf("0xfe %d", sub), hintThreads)
		}
	default:
		b.unsupported(at, "unknown", code, hint2)
	}
}

var gcNames = [...]string{
	"struct.new", "struct.new_default", "struct.get", "struct.get_s", "struct.get_u", "struct.set",
	"array.new", "array.new_default", "array.new_fixed", "array.new_data", "array.new_elem",
	"array.get", "array.get_s", "array.get_u", "array.set", "array.len", "array.fill", "array.copy",
	"array.init_data", "array.init_elem", "ref.test", "ref.test null", "ref.cast", "ref.cast null",
	"br_on_cast", "br_on_cast_fail", "any.convert_extern", "extern.convert_any", "ref.i31",
	"i31.get_s", "i31.get_u",
}

func gcName(sub uint32) string {
	if sub < uint32(len(gcNames)) {
		return gcNames[sub]
	}
	return "unknown"
}

// atomicName composes the names of the threads proposal, which repeat every 7 codes.
func atomicName(sub uint32) string {
	switch sub {
	case 0:
		return "memory.atomic.notify"
	case 1:
		return "memory.atomic.wait32"
	case 2:
		return "memory.atomic.wait64"
	case 3:
		return "atomic.fence"
	}
	if sub < 0x10 || sub > 0x4e {
		return "unknown"
	}
	group, width := (sub-0x10)/7, (sub-0x10)%7
	typ := [...]string{"i32", "i64", "i32", "i32", "i64", "i64", "i64"}[width]
	bits := [...]string{"", "", "8", "16", "8", "16", "32"}[width]
	sign := ""
	if bits != "" && group != 1 {
		sign = "_u"
	}
	switch group {
	case 0:
		return typ + ".atomic.load" + bits + sign
	case 1:
		return typ + ".atomic.store" + bits
	}
	action := [...]string{"add", "sub", "and", "or", "xor", "xchg", "cmpxchg"}[group-2]
	return typ + ".atomic.rmw" + bits + "." + action + sign
}

var relaxedNames = [...]string{
	"i8x16.relaxed_swizzle",
	"i32x4.relaxed_trunc_f32x4_s", "i32x4.relaxed_trunc_f32x4_u",
	"i32x4.relaxed_trunc_f64x2_s_zero", "i32x4.relaxed_trunc_f64x2_u_zero",
	"f32x4.relaxed_madd", "f32x4.relaxed_nmadd", "f64x2.relaxed_madd", "f64x2.relaxed_nmadd",
	"i8x16.relaxed_laneselect", "i16x8.relaxed_laneselect", "i32x4.relaxed_laneselect", "i64x2.relaxed_laneselect",
	"f32x4.relaxed_min", "f32x4.relaxed_max", "f64x2.relaxed_min", "f64x2.relaxed_max",
	"i16x8.relaxed_q15mulr_s", "i16x8.relaxed_dot_i8x16_i7x16_s", "i32x4.relaxed_dot_i8x16_i7x16_add_s",
}

func vectorName(sub uint32) string {
	if i := sub - 0x100; sub >= 0x100 && i < uint32(len(relaxedNames)) {
		return relaxedNames[i]
	}
	return "unknown"
}
