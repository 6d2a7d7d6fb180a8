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
// and 0.6 s for 5,000 branches in a function with 1,000 locals.
func (b *body) charge() {
	loops, events, targets := uint64(b.loops), uint64(len(b.events)), uint64(b.targets)
	b.cost += 400*loops*loops + 6*events*events + targets*targets/4 + 60*events*uint64(b.locals)
	if b.cost > maxCost && !b.opts.anyCost {
		b.failf("function %d makes the module too expensive to compile (it has %d loops, %d branches and calls, %d targets of br_table, %d locals): "+
			"split the function, or have the compiler optimise for size", b.fn, b.loops, len(b.events), b.targets, b.locals)
	}
}
