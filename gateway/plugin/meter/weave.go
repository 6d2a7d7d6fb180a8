package meter

// write appends the function with its size and what the plan injects.
func (b *body) write(out []byte) []byte {
	p := &b.planner
	a := b.asm()
	a.b, a.local = b.codeBuffer[:0], b.locals
	b.outers = b.outers[:0]
	if p.useLocal {
		a.b = appendU32(a.b, b.groups+1)
		a.op(b.data[b.declared:b.code]...).op(1, typeI64)
	} else {
		a.op(b.data[b.start:b.code]...)
	}
	at := uint32(b.code)
	for i := range b.events {
		e := &b.events[i]
		a.op(b.data[at:e.at]...)
		b.around(a, e, i == len(b.events)-1)
		at = e.next
		if e.segment == none {
			continue
		}
		if s := &p.segments[e.segment]; s.units > 0 && !s.merged {
			// The outer loop checks for the loop in it.
			check := (s.check || p.total > largeBody) && !e.outer
			a.count(s.units, s.inLocal, check)
			b.mod.Checkpoints++
		}
	}
	b.codeBuffer = a.b
	return append(appendU32(out, uint32(len(a.b))), a.b...)
}

// around writes an event's instruction and moves the fuel between its global and the local.
func (b *body) around(a *asm, e *event, last bool) {
	behind := e.kind == evEnd && !last // the end of a loop, whichever way it was reached
	if e.load {
		a.get(glFuel).setLocal()
	}
	if e.spill && !behind {
		a.getLocal().set(glFuel)
	}
	b.instruct(a, e)
	if e.spill && behind {
		a.getLocal().set(glFuel)
	}
	if e.spill && e.kind.isCall() {
		a.get(glFuel).setLocal()
	}
}

// instruct writes an event's instruction or what replaces it.
func (b *body) instruct(a *asm, e *event) {
	own := b.data[e.at:e.next]
	switch e.kind {
	case evStart:
		b.openBlock(e)
	case evBlock, evIf:
		b.openBlock(e)
		a.op(own...)
	case evLoop:
		b.openBlock(e)
		if e.outer {
			a.outerLoop(own)
		} else {
			a.op(own...)
		}
	case evEnd:
		a.op(own...)
		if b.closeBlock() {
			a.op(opEnd)
		}
	case evBranch, evBranchIf:
		b.branch(a, own)
	case evPages:
		a.get(glPages)
	case evCallIn:
		a.call(e.arg)
	case evPay:
		a.call(e.arg).op(own...)
	default:
		a.op(own...)
	}
}

// outerLoop opens a loop twice. The inner one leaves to the outer one when the fuel is below zero,
// and the checkpoint is called there: a call inside the inner one, however seldom, would keep
// the runtime's compiler from holding anything in registers there.
func (a *asm) outerLoop(loop []byte) *asm {
	a.op(loop...)
	a.belowZero().op(opIf, void).refuelLocal().op(opEnd)
	a.op(loop...)
	return a.belowZero().op(opBrIf, 1)
}

func (b *body) openBlock(e *event) {
	n := uint32(0)
	if len(b.outers) > 0 {
		n = b.outers[len(b.outers)-1]
	}
	if e.outer {
		n++
	}
	b.outers = append(b.outers, n)
}

// closeBlock tells whether the block has an outer loop, which ends too.
func (b *body) closeBlock() bool {
	last := len(b.outers) - 1
	n := b.outers[last]
	b.outers = b.outers[:last]
	return last > 0 && n > b.outers[last-1]
}

// branch writes a branch whose labels also count the outer loops that it leaves.
func (b *body) branch(a *asm, own []byte) {
	if op := own[0]; !b.planner.useOuter || op == opReturn {
		a.op(own...)
		return
	}
	r := reader{data: own, pos: 1, end: len(own)}
	a.op(own[0])
	labels := uint64(1)
	if own[0] == opBrTable {
		n := r.u32()
		a.b = appendU32(a.b, n)
		labels = uint64(n) + 1
	}
	top := len(b.outers) - 1
	for range labels {
		depth := r.u32()
		a.b = appendU32(a.b, depth+b.outers[top]-b.outers[top-int(depth)])
	}
}
