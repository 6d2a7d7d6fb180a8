package meter

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
)

// A random program of structured control flow, which is at once WebAssembly code and a function
// that counts the instructions it runs. Its conditions come from a hash of its own path.

type machine struct {
	trace   uint64
	passes  int32 // loop passes that are left
	steps   int64
	program []node
}

// A node emits its code and runs; run returns how many labels it branches out of, or through.
type node struct {
	code []byte
	run  func(*machine) int
}

const (
	through  = -1
	returned = 1 << 20
)

func (m *machine) bits(shift byte, mask uint64) uint64 { return m.trace >> shift & mask }

// globals: 0 trace, 1 passes.
func condition(shift byte, mask uint64) []byte {
	b := appendSigned([]byte{0x23, 0, opI64Const}, int64(shift))
	return append(appendSigned(append(b, 0x88, opI64Const), int64(mask)), 0x83, opI32Wrap) // shr_u, and
}

const conditionSteps = 6

type generator struct {
	*rand.Rand
	functions int
}

func (g *generator) block(labels []bool, depth, fn int) node {
	items := make([]node, g.IntN(5))
	for i := range items {
		items[i] = g.statement(labels, depth, fn)
	}
	code := []byte{}
	for _, n := range items {
		code = append(code, n.code...)
	}
	return node{code, func(m *machine) int {
		for _, n := range items {
			if out := n.run(m); out != through {
				return out
			}
		}
		return through
	}}
}

func (g *generator) statement(labels []bool, depth, fn int) node {
	kind := g.IntN(10)
	if depth == 0 && kind >= 3 && kind <= 6 {
		kind = g.IntN(3)
	}
	switch kind {
	case 0, 1:
		k := g.Int64N(1000)
		code := append([]byte{0x23, 0, opI64Const, 31, 0x7e}, appendSigned([]byte{opI64Const}, k)...)
		return node{append(code, opI64Add, 0x24, 0), func(m *machine) int {
			m.trace, m.steps = m.trace*31+uint64(k), m.steps+6
			return through
		}}
	case 2:
		n := g.IntN(40)
		return node{slices.Repeat([]byte{0x01}, n), func(m *machine) int { m.steps += int64(n); return through }}
	case 3:
		body := g.block(append(labels, false), depth-1, fn)
		return node{slices.Concat([]byte{0x02, void}, body.code, []byte{opEnd}), func(m *machine) int { return left(body.run(m)) }}
	case 4:
		return g.loop(labels, depth, fn)
	case 5, 6:
		return g.choice(labels, depth, fn)
	case 7:
		if fn+1 < g.functions {
			callee := fn + 1 + g.IntN(g.functions-fn-1)
			return node{[]byte{0x10, byte(callee)}, func(m *machine) int {
				m.steps++
				m.program[callee].run(m)
				return through
			}}
		}
		return node{[]byte{0x01}, func(m *machine) int { m.steps++; return through }}
	default:
		return g.branch(labels)
	}
}

// left takes a branch across one label.
func left(out int) int {
	switch out {
	case through, 0:
		return through
	case returned:
		return returned
	}
	return out - 1
}

// loop is a block around a loop that ends when no pass is left or its condition says so.
func (g *generator) loop(labels []bool, depth, fn int) node {
	body := g.block(append(labels, false, true), depth-1, fn)
	shift := byte(g.IntN(20))
	code := slices.Concat(
		[]byte{0x02, void, opLoop, void, 0x23, 1, 0x45, opBrIf, 1, 0x23, 1, opI32Const, 1, opI32Sub, 0x24, 1},
		body.code, condition(shift, 3), []byte{opBrIf, 0, opEnd, opEnd})
	return node{code, func(m *machine) int {
		for {
			m.steps += 3
			if m.passes == 0 {
				return through
			}
			m.passes--
			m.steps += 4
			switch out := body.run(m); {
			case out == 0:
				continue
			case out != through:
				return left(left(out))
			}
			m.steps += conditionSteps + 1
			if m.bits(shift, 3) == 0 {
				return through
			}
		}
	}}
}

func (g *generator) choice(labels []bool, depth, fn int) node {
	then, other := g.block(append(labels, false), depth-1, fn), g.block(append(labels, false), depth-1, fn)
	shift := byte(g.IntN(20))
	code := slices.Concat(condition(shift, 1), []byte{opIf, void}, then.code, []byte{opElse}, other.code, []byte{opEnd})
	return node{code, func(m *machine) int {
		m.steps += conditionSteps + 1
		if m.bits(shift, 1) != 0 {
			return left(then.run(m))
		}
		return left(other.run(m))
	}}
}

// branch leaves for any label, the function's included.
func (g *generator) branch(labels []bool) node {
	label := func() (byte, int) {
		d := g.IntN(len(labels) + 1)
		if d == len(labels) {
			return byte(d), returned
		}
		return byte(d), d
	}
	shift := byte(g.IntN(20))
	switch g.IntN(4) {
	case 0:
		d, out := label()
		return node{[]byte{0x0c, d}, func(m *machine) int { m.steps++; return out }}
	case 1:
		return node{[]byte{opReturn}, func(m *machine) int { m.steps++; return returned }}
	case 2:
		d, out := label()
		return node{append(condition(shift, 7), opBrIf, d), func(m *machine) int {
			m.steps += conditionSteps + 1
			if m.bits(shift, 7) != 0 {
				return out
			}
			return through
		}}
	default:
		var d [3]byte
		var outs [3]int
		for i := range d {
			d[i], outs[i] = label()
		}
		return node{append(condition(shift, 3), 0x0e, 2, d[0], d[1], d[2]), func(m *machine) int {
			m.steps += conditionSteps + 1
			return outs[min(m.bits(shift, 3), 2)]
		}}
	}
}

// TestRandomPrograms compares each program with itself without the meter and with its model, and
// wants every instruction paid for, and the same price whatever the interval and wherever the fuel is kept.
func TestRandomPrograms(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 60
	}
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	var paid, run int64
	for seed := range rounds {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 1)), functions: 4}
		program := make([]node, g.functions)
		var bodies, types [][]byte
		for fn := range program {
			program[fn] = g.block(nil, 5, fn)
			bodies = append(bodies, sized(slices.Concat([]byte{0}, program[fn].code, []byte{opEnd})))
			types = append(types, []byte{0})
		}
		original := module(voidType, sec(secFunction, vec(types...)...),
			sec(secGlobal, vec([]byte{typeI64, 1, opI64Const, 1, opEnd}, append(appendSigned([]byte{typeI32, 1, opI32Const}, 200), opEnd))...),
			sec(secExport, vec(export("f", 0, 0), export("trace", 3, 0), export("passes", 3, 1))...),
			sec(secCode, vec(bodies...)...))
		model := &machine{trace: 1, passes: 200, program: program}
		program[0].run(model)

		var spent int64
		for k, m := range []*Module{
			nil, rewrite(t, original, Options{}), rewrite(t, original, Options{Interval: 100}), rewrite(t, original, Options{onlyGlobal: true}),
		} {
			i := instantiate(t, r, original, m)
			i.refuel(1 << 40)
			if _, err := i.call("f"); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if trace, passes := i.ExportedGlobal("trace").Get(), i.ExportedGlobal("passes").Get(); trace != model.trace ||
				passes != uint64(model.passes) {
				t.Fatalf("seed %d, version %d: trace %d and %d passes, want %d and %d", seed, k, trace, passes, model.trace, model.passes)
			}
			if m == nil {
				continue
			}
			now := 1<<40 - i.left()
			if now < model.steps || spent != 0 && spent != now {
				t.Fatalf("seed %d, version %d: %d instructions cost %d units, and %d before", seed, k, model.steps, now, spent)
			}
			spent = now
			i.Close(t.Context())
		}
		paid, run = paid+spent, run+model.steps
	}
	t.Logf("%d instructions cost %d units", run, paid)
}

// TestUnits has the exact price of code. The function's entry is one unit, its local another, and
// every instruction but else one more.
func TestUnits(t *testing.T) {
	nops := func(n int) []byte { return slices.Repeat([]byte{0x01}, n) }
	// around repeats code 1000 times. The end of the loop is short, so each pass pays for it.
	around := func(code ...[]byte) []byte {
		return slices.Concat([]byte{opI32Const, 0xe8, 7, opLocalSet, 0, opLoop, void}, slices.Concat(code...),
			[]byte{opLocalGet, 0, opI32Const, 1, opI32Sub, opLocalTee, 0, opBrIf, 0, opEnd})
	}
	const base, pass = 1 + 1 + 2 + 1, 1 + 5 + 1
	never, always := []byte{opI32Const, 0}, []byte{opI32Const, 1}
	ifElse := func(condition, then, other []byte) []byte {
		return slices.Concat(condition, []byte{opIf, void}, then, []byte{opElse}, other, []byte{opEnd})
	}
	block := func(condition, skipped []byte) []byte {
		return slices.Concat([]byte{0x02, void}, condition, []byte{opBrIf, 0}, skipped, []byte{opEnd})
	}
	for name, c := range map[string]struct {
		code []byte
		want int
	}{
		"nothing":                    {nil, 1 + 1 + 1},
		"straight":                   {nops(100), 1 + 1 + 1 + 100},
		"loop":                       {around(), base + 1000*pass},
		"loop of 50":                 {around(nops(50)), base + 1000*(pass+50)},
		"short arms are both paid":   {around(ifElse(never, nops(5), nops(6))), base + 1000*(pass+2+5+6+1)},
		"long arm that is not run":   {around(ifElse(never, nops(50), nops(6))), base + 1000*(pass+2+6+1)},
		"long arm that is run":       {around(ifElse(always, nops(50), nops(6))), base + 1000*(pass+2+50+6+1)},
		"two long arms":              {around(ifElse(never, nops(50), nops(60))), base + 1000*(pass+2+60+1)},
		"long part that is skipped":  {around(block(always, nops(50)), nops(5)), base + 1000*(pass+3+5)},
		"long part that is run":      {around(block(never, nops(50)), nops(5)), base + 1000*(pass+3+50+1+5)},
		"short part that is skipped": {around(block(always, nops(5)), nops(5)), base + 1000*(pass+3+5+1+5)},
		"long rest behind a skip":    {around(block(always, nops(50)), nops(50)), base + 1000*(pass+3+50)},
		"branch out of the loop":     {around(ifElse(never, nops(20), []byte{opReturn})), base + pass + 2 + 1 + 1},
		"memory.fill of 64 KiB":      {[]byte{opI32Const, 0, opI32Const, 0, opI32Const, 0x80, 0x80, 4, 0xfc, 11, 0}, 1 + 1 + 4 + 1 + 1024},
		"memory.copy of 63 bytes":    {[]byte{opI32Const, 0, opI32Const, 0, opI32Const, 63, 0xfc, 10, 0, 0}, 1 + 1 + 4 + 1},
		"memory.grow":                {[]byte{opI32Const, 0, opMemoryGrow, 0, opDrop}, 1 + 1 + 2 + growUnits + 1},
		"call":                       {[]byte{opI32Const, 1, opIf, void, opReturn, opEnd, 0x10, 0}, 1 + 1 + 2 + 1 + 1 + 1 + 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t, wazero.NewRuntimeConfigInterpreter())
			for _, onlyGlobal := range []bool{false, true} {
				g := instantiate(t, r, nil, rewrite(t, codeModule(c.code...), Options{onlyGlobal: onlyGlobal}))
				g.refuel(1 << 40)
				if _, err := g.call("f"); err != nil {
					t.Fatal(err)
				}
				if got := int(1<<40 - g.left()); got != c.want {
					t.Errorf("%d units, want %d", got, c.want)
				}
			}
		})
	}
}
