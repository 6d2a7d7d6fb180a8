package meter

// maxCost bounds what compiling a module may take, in nanoseconds of the machine that the
// weights of charge were measured on. Modules of some megabytes that compilers make take one
// or two seconds.
const maxCost = 10_000_000_000

// charge adds what compiling the function takes. The runtime's compiler takes time and memory
// that grow with the square of the loops, of the branches and of the branch targets of a
// function, which a module of some kilobytes can make last for hours: so a module is
// refused before it is compiled. Measured alone, wazero took 0.36 s for 1,000 loops, nested or
// not, 5.4 s for 20,000 nested blocks with a branch each, 2.2 s for a table of 100,000 targets,
// 0.6 s for 5,000 branches in a function with 1,000 locals, but 36 s and 1.8 GB for 18,000 that use
// them all, 13 s and 3.3 GB for 944 loops that do, and 19 s and 3.8 GB for 5,000 calls of a
// thousand parameters and results.
func (b *body) charge() {
	loops, events, targets := uint64(b.loops), uint64(len(b.events)), uint64(b.targets)
	locals := uint64(b.locals)
	b.cost += functionCost + 400*loops*loops + 6*events*events + targets*targets/4 + valueCost*b.values +
		(60*events+30_000*loops)*locals + 500*events*max(locals, usualLocals) - 500*events*usualLocals
	if b.cost > maxCost && !b.opts.anyCost {
		b.failf("function %d makes the module too expensive to compile (it has %d loops, %d branches and calls, %d targets of br_table, %d "+
			"locals, %d values passed): "+
			"split the function, or have the compiler optimise for size", b.fn, b.loops, len(b.events), b.targets, b.locals, b.values)
	}
}

const (
	// usualArity is how many values a call or a block moves at no further cost.
	usualArity = 8
	valueCost  = 4000
	// usualLocals is how many locals do not live across many branches: Go's functions have no more.
	usualLocals = 50
	// functionCost is that of a function with nothing in it.
	functionCost = 20_000
)

// moves notes that the function passes so many values at one place: an instruction of two bytes may
// pass a thousand, and each makes the compiler work and keep something.
func (b *body) moves(values uint32) {
	if values > usualArity {
		b.values += uint64(values - usualArity)
	}
}
