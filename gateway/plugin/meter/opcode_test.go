package meter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// opcodes returns every instruction of WebAssembly 2.0 with immediates, by name or number.
func opcodes() map[string][]byte {
	all := map[string][]byte{}
	add := func(code []byte, immediates ...byte) {
		all[fmt.Sprintf("%x", code)] = slices.Concat(code, immediates)
	}
	for _, op := range []byte{0x00, 0x01, 0x0f, 0x1a, 0x1b, 0xd1} {
		add([]byte{op})
	}
	add([]byte{0x02}, void, opEnd)
	add([]byte{0x03}, void, opEnd)
	add([]byte{0x04}, void, opElse, opEnd)
	for _, block := range []byte{0x02, 0x03} {
		for _, typ := range []byte{0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f} {
			all[fmt.Sprintf("block %x %x", block, typ)] = []byte{block, typ, 0x00, opEnd}
		}
		all[fmt.Sprintf("block %x 0", block)] = []byte{block, 0, opEnd} // by index of a type
	}
	add([]byte{0x0c}, 0)
	add([]byte{0x0d}, 0)
	add([]byte{0x0e}, 2, 0, 0, 0)
	add([]byte{0x10}, 0)
	add([]byte{0x11}, 0, 0)
	add([]byte{0x1c}, 1, typeI32)
	for op := byte(0x20); op <= 0x24; op++ {
		add([]byte{op}, 0)
	}
	add([]byte{0x25}, 1)
	add([]byte{0x26}, 1)
	for op := byte(0x28); op <= 0x3e; op++ {
		add([]byte{op}, 0, 0x80, 0x80, 0x01)
	}
	add([]byte{0x3f}, 0)
	add([]byte{0x40}, 0)
	add([]byte{0x41}, 0xff, 0xff, 0xff, 0xff, 0x07)
	add([]byte{0x42}, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f)
	add([]byte{0x43}, 0x0b, 0x0b, 0x0b, 0x0b)
	add([]byte{0x44}, 3, 3, 3, 3, 3, 3, 3, 3)
	for op := 0x45; op <= 0xc4; op++ {
		add([]byte{byte(op)})
	}
	add([]byte{0xd0}, typeExternref)
	add([]byte{0xd2}, 0)
	misc := [18][]byte{8: {0, 0}, 9: {0}, 10: {0, 0}, 11: {0}, 12: {0, 0}, 13: {0}, 14: {0, 0}, 15: {1}, 16: {1}, 17: {1}}
	for sub, immediates := range misc {
		add([]byte{0xfc, byte(sub)}, immediates...)
	}
	for sub := uint32(0); sub < 256; sub++ {
		code := appendU32([]byte{0xfd}, sub)
		switch {
		case vectorGap(sub):
		case sub <= 11 || sub == 92 || sub == 93:
			add(code, 0, 5)
		case sub == 12 || sub == 13:
			add(code, 11, 3, 11, 3, 11, 3, 11, 3, 11, 3, 11, 3, 11, 3, 11, 3)
		case sub >= 84 && sub <= 91:
			add(code, 0, 5, 1)
		case sub >= 21 && sub <= 34:
			add(code, 1)
		default:
			add(code)
		}
	}
	return all
}

// TestEveryOpcode puts each instruction where the types of its operands do not matter, around
// loops, so that a misread immediate gives a module that the runtime refuses.
func TestEveryOpcode(t *testing.T) {
	all := opcodes()
	vectors := 0
	r := newRuntime(t, wazero.NewRuntimeConfigInterpreter())
	for name, code := range all {
		if code[0] == 0xfd {
			vectors++
		}
		body := slices.Concat(
			[]byte{opLoop, void, 0x00}, code, []byte{0x00, opEnd},
			[]byte{0x02, void, 0x00}, code, []byte{0x00, opEnd, 0x00},
		)
		original := codeModule(body...)
		if err := compiles(r, original); err != nil {
			t.Errorf("%s: the test module itself: %v", name, err)
		}
		m, err := Rewrite(original, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := compiles(r, m.Bytes); err != nil {
			t.Errorf("%s: rewritten: %v", name, err)
		}
	}
	if vectors != 236 {
		t.Errorf("%d vector instructions, want 236", vectors)
	}
}

func compiles(r wazero.Runtime, module []byte) error {
	c, err := r.CompileModule(context.Background(), module)
	if err == nil {
		err = c.Close(context.Background())
	}
	return err
}

// TestRefusedOpcodes wants everything else refused by name.
func TestRefusedOpcodes(t *testing.T) {
	for _, c := range []struct {
		code []byte
		want string
	}{
		{[]byte{0x12, 0}, "opcode return_call (0x12) at function 0 offset 0x40 is not supported: build without -mtail-call"},
		{[]byte{0x13, 0, 0}, "return_call_indirect (0x13)"},
		{[]byte{0x14, 0}, "call_ref"},
		{[]byte{0x15, 0}, "return_call_ref"},
		{[]byte{0x06, void, opEnd}, "opcode try (0x6)"},
		{[]byte{0x08, 0}, "opcode throw (0x8)"},
		{[]byte{0x0a}, "throw_ref"},
		{[]byte{0x1f, void, 0, opEnd}, "try_table (0x1f)"},
		{[]byte{0xd5, 0}, "br_on_null"},
		{[]byte{0xfb, 0, 0}, "struct.new (0xfb 0)"},
		{[]byte{0xfb, 30}, "i31.get_u"},
		{[]byte{0xfb, 99}, "unknown (0xfb 99)"},
		{[]byte{0xfe, 0x10, 2, 0}, "i32.atomic.load (0xfe 16)"},
		{[]byte{0xfe, 0x1b, 0, 0}, "i64.atomic.store8"},
		{[]byte{0xfe, 0x4e, 0, 0}, "i64.atomic.rmw32.cmpxchg_u"},
		{[]byte{0xfe, 3, 0}, "atomic.fence (0xfe 3) at function 0 offset 0x40 is not supported: build without threads"},
		{[]byte{0xfd, 0x80, 2}, "i8x16.relaxed_swizzle (0xfd 256)"},
		{[]byte{0xfd, 0x93, 2}, "i32x4.relaxed_dot_i8x16_i7x16_add_s"},
		{[]byte{0xfd, 0x9a, 1}, "unknown (0xfd 154)"},
		{[]byte{0xfc, 18}, "unknown (0xfc 18)"},
		{[]byte{0x27}, "unknown (0x27)"},
		{[]byte{0xff}, "unknown (0xff)"},
	} {
		_, err := Rewrite(codeModule(c.code...), Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("% x: %v, want %q", c.code, err, c.want)
		}
	}
	// No other byte opens an instruction.
	known := opcodes()
	for op := range 256 {
		if known[fmt.Sprintf("%02x", op)] != nil || op == 0x05 || op == 0x0b || op == 0xfc || op == 0xfd {
			continue
		}
		if _, err := Rewrite(codeModule(byte(op), 0, 0, 0), Options{}); err == nil || !strings.Contains(err.Error(), "is not supported") {
			t.Errorf("%#x: %v", op, err)
		}
	}
}
