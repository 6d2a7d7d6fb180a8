package meter

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// function is a module with one function of a body and some locals.
func function(code []byte, locals uint64) []byte {
	section := func(id byte, body []byte) []byte {
		return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
	}
	body := []byte{0}
	if locals > 0 {
		body = append(binary.AppendUvarint([]byte{1}, locals), 0x7f)
	}
	body = append(append(body, code...), 0x0b)
	m := []byte("\x00asm\x01\x00\x00\x00")
	m = append(m, section(secType, []byte{1, 0x60, 0, 0})...)
	m = append(m, section(secFunction, []byte{1, 0})...)
	return append(m, section(secCode, append(binary.AppendUvarint([]byte{1}, uint64(len(body))), body...))...)
}

// arity is a module whose first function, of a body, has a stack of a thousand values before and
// after it; the second has as many parameters and results, of type 1.
func arity(code []byte) []byte {
	values := append(binary.AppendUvarint(nil, maxArity), bytes.Repeat([]byte{typeI32}, maxArity)...)
	constants := bytes.Repeat([]byte{opI32Const, 0}, maxArity)
	return module(sec(secType, vec([]byte{0x60, 0, 0}, slices.Concat([]byte{0x60}, values, values))...),
		sec(secFunction, 2, 0, 1),
		sec(secCode, vec(
			sized(slices.Concat([]byte{0}, constants, code, bytes.Repeat([]byte{opDrop}, maxArity), []byte{opEnd})),
			sized(slices.Concat([]byte{0}, constants, []byte{opEnd})))...))
}

// functions is a module of so many functions with nothing in them.
func functions(n int) []byte {
	count := binary.AppendUvarint(nil, uint64(n))
	return module(voidType, sec(secFunction, slices.Concat(count, make([]byte, n))...),
		sec(secCode, slices.Concat(count, bytes.Repeat([]byte{2, 0, opEnd}, n))...))
}

func nested(opening, closing []byte, n int) []byte {
	return append(bytes.Repeat(opening, n), bytes.Repeat(closing, n)...)
}

// Modules that would take the compiler minutes or gigabytes are refused before it sees them.
func TestExpensiveModules(t *testing.T) {
	table := binary.AppendUvarint([]byte{0x02, 0x40, 0x41, 0, 0x0e}, 1_000_000)
	table = append(append(table, make([]byte, 1_000_001)...), 0x0b)
	for name, m := range map[string][]byte{
		"nested loops":               function(nested([]byte{0x03, 0x40}, []byte{0x0b}, 8000), 0),
		"loops one after another":    function(bytes.Repeat([]byte{0x03, 0x40, 0x41, 0, 0x0d, 0, 0x0b}, 10_000), 0),
		"a large br_table":           function(table, 0),
		"nested if and else":         function(nested([]byte{0x41, 0, 0x04, 0x40}, []byte{0x05, 0x0b}, 25_000), 0),
		"loops with many locals":     function(bytes.Repeat([]byte{0x03, 0x40, 0x0b}, 1000), 1000),
		"calls of many values":       arity(bytes.Repeat([]byte{0x10, 1}, 3000)),
		"loops of many values":       arity(bytes.Repeat([]byte{0x03, 1, 0x0b}, 500)),
		"branches with many values":  arity(append([]byte{0x02, 1}, append(bytes.Repeat([]byte{0x41, 0, 0x0d, 0}, 3000), 0x0b)...)),
		"nothing but functions":      functions(1_100_000),
		"many branches, many locals": function(bytes.Repeat([]byte{0x41, 0, 0x04, 0x40, 0x41, 0, 0x21, 5, 0x0b}, 10_000), 10_000),
	} {
		_, err := Rewrite(m, Options{ReportCheckpoints: true})
		if err == nil || !strings.Contains(err.Error(), "too expensive") || !strings.Contains(err.Error(), "split") {
			t.Errorf("%s, %d bytes: %v", name, len(m), err)
		}
	}
	if _, err := Rewrite(make([]byte, maxModule+1), Options{}); err == nil || !strings.Contains(err.Error(), "strip it") {
		t.Errorf("a module that is too large: %v", err)
	}
	long := append(binary.AppendUvarint([]byte{0x60}, maxArity+1), append(bytes.Repeat([]byte{typeI32}, maxArity+1), 0)...)
	if _, err := Rewrite(module(sec(secType, vec(long)...)), Options{}); err == nil || !strings.Contains(err.Error(), "1001 parameters") {
		t.Errorf("a function with too many parameters: %v", err)
	}
	for name, m := range map[string][]byte{
		"loops":                function(nested([]byte{0x03, 0x40}, []byte{0x0b}, 500), 100),
		"calls of many values": arity(bytes.Repeat([]byte{0x10, 1}, 300)),
		"a br_table": function(append(append(binary.AppendUvarint([]byte{0x02, 0x40, 0x41, 0, 0x0e}, 20_000), make([]byte, 20_001)...),
			0x0b), 0),
		"blocks": function(nested([]byte{0x02, 0x40, 0x41, 0, 0x0d, 0}, []byte{0x0b}, 5000), 0),
	} {
		if _, err := Rewrite(m, Options{ReportCheckpoints: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What compilers make leaves room: the bundled plugins cost a tenth of the bound at most.
func TestCostOfRealModules(t *testing.T) {
	files, err := filepath.Glob("../../../build/plugins/*.wasm")
	if err != nil || len(files) == 0 {
		t.Skip("the plugins are not built")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Rewrite(b, Options{ReportCheckpoints: true})
		if err != nil {
			t.Fatal(err)
		}
		if m.Cost > maxCost/10 {
			t.Errorf("%s costs %d of %d", filepath.Base(file), m.Cost, uint64(maxCost))
		}
	}
}
