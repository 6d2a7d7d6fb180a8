package meter

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// TestGuestCannotReachTheMeter: the injected functions, globals and types follow the module's
// own, so an index that is one too high in the original would name them in the result.
func TestGuestCannotReachTheMeter(t *testing.T) {
	i32 := sec(secType, vec([]byte{0x60, 0, 0}, []byte{0x60, 1, typeI32, 0})...)
	for name, m := range map[string][]byte{
		"global.get":          codeModule(0x23, 1, opDrop),
		"global.set":          codeModule(0x42, 0, 0x24, 1),
		"call":                codeModule(0x10, 1),
		"call_indirect type":  codeModule(0x41, 0, 0x11, 1, 0),
		"block type":          codeModule(0x41, 0, 0x02, 1, opEnd, opDrop),
		"ref.func":            codeModule(0xd2, 1, opDrop),
		"local":               codeModule(opLoop, void, 0x20, 1, opDrop, opEnd),
		"export function":     module(voidType, sec(secExport, vec(export("x", 0, 0))...)),
		"export global":       module(sec(secExport, vec(export("x", 3, 0))...)),
		"export memory":       module(sec(secExport, vec(export("x", 2, 0))...)),
		"start":               module(voidType, sec(secStart, 0)),
		"function type":       module(i32, sec(secFunction, vec([]byte{2})...), sec(secCode, vec([]byte{2, 0, opEnd})...)),
		"import type":         module(voidType, sec(secImport, vec([]byte{1, 'a', 1, 'b', 0, 1})...)),
		"element":             module(sec(secElement, vec([]byte{1, 0, 1, 0})...)),
		"element expression":  module(sec(secElement, vec([]byte{5, typeFuncref, 1, 0xd2, 0, opEnd})...)),
		"global initialiser":  module(sec(secGlobal, vec([]byte{typeFuncref, 0, 0xd2, 0, opEnd})...)),
		"global in constant":  module(sec(secGlobal, vec([]byte{typeI64, 0, 0x23, 1, opEnd})...)),
		"data without memory": module(sec(secData, vec([]byte{0, opI32Const, 0, opEnd, 1, 'x'})...)),
		"load without memory": module(voidType, oneFunction, sec(secCode, vec([]byte{8, 0, 0x41, 0, 0x28, 0, 0, opDrop, opEnd})...)),
		"size without memory": module(voidType, oneFunction, sec(secCode, vec([]byte{5, 0, 0x3f, 0, opDrop, opEnd})...)),
	} {
		if _, err := Rewrite(m, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// wazero reads one byte of a vector opcode, whatever its length: behind 0x8c it would take the
	// second byte for unreachable and the constant for instructions that set the fuel.
	smuggled := append([]byte{opI64Const, 0x7f, 0x24, 1}, slices.Repeat([]byte{0x01}, 12)...)
	for name, m := range map[string][]byte{
		"padded v128.const":   codeModule(slices.Concat([]byte{0xfd, 0x8c, 0x00}, smuggled, []byte{opDrop})...),
		"padded vector":       codeModule(0xfd, 0x80, 0x81, 0x00),
		"padded memory.fill":  codeModule(opI32Const, 0, opI32Const, 0, opI32Const, 0, 0xfc, 0x8b, 0x00, 0),
		"padded in constants": module(sec(secGlobal, vec(slices.Concat([]byte{typeV128, 0, 0xfd, 0x8c, 0x00}, smuggled, []byte{opEnd}))...)),
	} {
		if _, err := Rewrite(m, Options{}); err == nil || !strings.Contains(err.Error(), "more bytes than it needs") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{
		FuelGlobal, ReserveGlobal, InterruptGlobal, StopGlobal, PagesGlobal, GlobalPrefix + "0", GlobalPrefix,
	} {
		_, err := Rewrite(module(oneMemory, sec(secExport, vec(export(name, 2, 0))...)), Options{})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("export %s: %v", name, err)
		}
	}
}

func TestRefusedModules(t *testing.T) {
	many := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	body := func(b ...byte) []byte {
		return module(voidType, oneFunction, sec(secCode, vec(sized(b))...))
	}
	for name, c := range map[string]struct {
		module []byte
		want   string
	}{
		"empty":                 {nil, "no WebAssembly module"},
		"component":             {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
		"tag section":           {module(sec(secTag, 0)), "exceptions"},
		"unknown section":       {module(sec(14)), "section 14"},
		"repeated section":      {module(voidType, voidType), "repeated"},
		"order of sections":     {module(oneMemory, voidType), "out of order"},
		"data count behind":     {module(voidType, sec(secCode, 0), sec(secDataCount, 0)), "out of order"},
		"long section":          {append(slices.Clone(header), secType, 5, 0), "longer than the module"},
		"section of 4 GiB":      {append(slices.Clone(header), append([]byte{secCustom}, many...)...), "longer than the module"},
		"bytes left":            {module(sec(secType, 0, 0)), "too many"},
		"mutable import":        {module(sec(secImport, vec([]byte{1, 'a', 1, 'b', 3, typeI32, 1})...)), "mutable"},
		"memory import":         {module(sec(secImport, vec([]byte{1, 'a', 1, 'b', 2, 0, 1})...)), "owns its memory"},
		"table import":          {module(sec(secImport, vec([]byte{1, 'a', 1, 'b', 1, typeFuncref, 0, 1})...)), "owns its memory and tables"},
		"GC type":               {module(sec(secType, vec([]byte{0x5f, 0})...)), "GC"},
		"value type":            {module(sec(secType, vec([]byte{0x60, 1, 0x69, 0})...)), "value type 0x69"},
		"two memories":          {module(sec(secMemory, 2, 0, 1, 0, 1)), "multi-memory"},
		"shared memory":         {module(sec(secMemory, 1, 3, 1, 1)), "threads"},
		"memory64":              {module(sec(secMemory, 1, 4, 1)), "memory64"},
		"extended constant":     {module(sec(secGlobal, vec([]byte{typeI32, 0, 0x41, 0, 0x41, 0, 0x6a, opEnd})...)), "extended-const"},
		"element kind":          {module(sec(secElement, 1, 8)), "kind 8"},
		"data kind":             {module(sec(secData, 1, 3)), "kind 3"},
		"code without function": {module(sec(secCode, vec([]byte{2, 0, opEnd})...)), "0 functions"},
		"function without code": {module(voidType, oneFunction), "0 have code"},
		"export twice":          {module(oneMemory, sec(secExport, vec(export("m", 2, 0), export("m", 2, 0))...)), "repeated"},
		"locals":                {body(2, 0x7f, typeI32, 0xff, 0xff, 0xff, 0xff, 0x0f, typeI32, opEnd), "locals"},
		"locals of the module":  {manyLocals(1000), "locals"},
		"no end":                {body(0), "unexpected end"},
		"end too early":         {body(0, opEnd, 0x01), "after its end"},
		"label":                 {body(0, 0x0c, 1, opEnd), "label index 1"},
		"else alone":            {body(0, opElse, opEnd), "else"},
		"long integer":          {body(0, 0x41, 0x80, 0x80, 0x80, 0x80, 0x10, opEnd), "32 bits"},
		"types of 4 Gi":         {module(sec(secType, many...)), "unexpected end"},
		"imports of 4 Gi":       {module(sec(secImport, many...)), "unexpected end"},
		"functions of 4 Gi":     {module(voidType, sec(secFunction, many...)), "unexpected end"},
		"tables of 4 Gi":        {module(sec(secTable, many...)), "unexpected end"},
		"globals of 4 Gi":       {module(sec(secGlobal, many...)), "unexpected end"},
		"exports of 4 Gi":       {module(sec(secExport, many...)), "unexpected end"},
		"elements of 4 Gi":      {module(sec(secElement, many...)), "unexpected end"},
		"data of 4 Gi":          {module(sec(secData, many...)), "unexpected end"},
		"code of 4 Gi":          {module(sec(secCode, many...)), "have code"},
		"targets of 4 Gi":       {body(slices.Concat([]byte{0, 0x0e}, many, []byte{opEnd})...), "label index"},
		"name of 4 Gi":          {module(sec(secExport, append([]byte{1}, many...)...)), "unexpected end"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Rewrite(c.module, Options{})
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
	if _, err := Rewrite(module(), Options{Interval: MaxInterval + 1}); err == nil {
		t.Error("an interval above the most was accepted")
	}
}

// manyLocals has functions of 50,000 locals each.
func manyLocals(functions int) []byte {
	return module(voidType, sec(secFunction, vec(slices.Repeat([][]byte{{0}}, functions)...)...),
		sec(secCode, vec(slices.Repeat([][]byte{{6, 1, 0xd0, 0x86, 3, typeI32, opEnd}}, functions)...)...))
}

// TestDeepNesting: time and memory stay linear.
func TestDeepNesting(t *testing.T) {
	const depth = 50_000
	for name, unit := range map[string][]byte{
		"loops":    {opLoop, void},
		"blocks":   {0x02, void, 0x41, 0, opBrIf, 0},
		"tables":   {0x02, void, 0x41, 0, 0x0e, 0, 0},
		"branches": {opLoop, void, 0x41, 0, opBrIf, 0},
	} {
		body := slices.Concat([]byte{0}, bytes.Repeat(unit, depth), bytes.Repeat([]byte{opEnd}, depth+1))
		m := rewrite(t, module(voidType, oneFunction, sec(secCode, vec(sized(body))...)), Options{anyCost: true})
		if len(m.Bytes) > 20*len(body) {
			t.Errorf("%s: %d bytes became %d", name, len(body), len(m.Bytes))
		}
	}
}

// TestElementKinds has all eight kinds of element segments, which hold function indices.
func TestElementKinds(t *testing.T) {
	original := module(
		voidType, oneFunction,
		sec(secTable, vec([]byte{typeFuncref, 0, 8}, []byte{typeFuncref, 0, 8})...),
		sec(secElement, vec(
			[]byte{0, opI32Const, 0, opEnd, 2, 0, 0},
			[]byte{1, 0, 1, 0},
			[]byte{2, 1, opI32Const, 0, opEnd, 0, 1, 0},
			[]byte{3, 0, 1, 0},
			[]byte{4, opI32Const, 1, opEnd, 1, 0xd2, 0, opEnd},
			[]byte{5, typeFuncref, 1, 0xd0, typeFuncref, opEnd},
			[]byte{6, 1, opI32Const, 2, opEnd, typeFuncref, 1, 0xd2, 0, opEnd},
			[]byte{7, typeFuncref, 1, 0xd2, 0, opEnd},
		)...),
		sec(secCode, vec([]byte{2, 0, opEnd})...),
	)
	r := newRuntime(t, wazero.NewRuntimeConfigInterpreter())
	for _, module := range [][]byte{original, rewrite(t, original, Options{}).Bytes} {
		mod, err := r.InstantiateWithConfig(context.Background(), module, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		mod.Close(context.Background())
	}
}

func TestFacts(t *testing.T) {
	original := slices.Concat(testModules(t)["globals"],
		sec(secCustom, append(appendName(nil, "tributary.manifest"), "m"...)...),
		sec(secCustom, append(appendName(nil, ".debug_line"), "l"...)...))
	m := rewrite(t, original, Options{})
	if want := []string{"tributary_global_1", "b", "tributary_global_4", "tributary_global_5"}; !slices.Equal(m.Globals, want) {
		t.Errorf("globals are %q, want %q", m.Globals, want)
	}
	var names []string
	for _, c := range m.Custom {
		names = append(names, c.Name+"="+string(c.Data[:1]))
	}
	if want := []string{"name=\x01", "tributary.manifest=m", ".debug_line=l"}; !slices.Equal(names[:0:0], want[:0]) || len(names) != 3 ||
		names[1] != want[1] || names[2] != want[2] {
		t.Errorf("custom sections are %q, want %q", names, want)
	}
	if !bytes.Contains(m.Bytes, []byte("tributary.manifest")) || bytes.Contains(m.Bytes, []byte(".debug_line")) {
		t.Error("the manifest is kept and the debug information, whose offsets are wrong now, is not")
	}
	if again := rewrite(t, original, Options{}); !bytes.Equal(m.Bytes, again.Bytes) {
		t.Error("rewriting twice gives different bytes")
	}
	if _, err := Rewrite(m.Bytes, Options{}); err == nil {
		t.Error("a rewritten module was accepted again")
	}
	got := rewrite(t, testModules(t)["tables"], Options{}).Unrestorable
	want := []string{"mutable funcref at global", "mutable externref at global", "table.set", "table.fill", "table.copy", "table.init",
		"table.grow", "elem.drop"}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("not restorable: %q, want %q", got, want)
		}
	}
	if got := rewrite(t, testModules(t)["simd"], Options{}).Unrestorable; len(got) != 1 || got[0] != "mutable v128 at global 0" {
		t.Errorf("not restorable: %q", got)
	}
}
