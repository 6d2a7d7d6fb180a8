package meter

// write appends the function with its size and what the plan injects.
func (b *body) write(out []byte) []byte {
	p := &b.planner
	a := b.asm()
	a.b, a.local = b.codeBuffer[:0], b.locals
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
			a.count(s.units, s.inLocal, s.check || p.total > largeBody)
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
	switch e.kind {
	case evPages:
		a.get(glPages)
	case evCallIn:
		a.call(e.arg)
	case evPay:
		a.call(e.arg).op(b.data[e.at:e.next]...)
	default:
		a.op(b.data[e.at:e.next]...)
	}
}
