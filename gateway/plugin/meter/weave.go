package meter

// write appends the function with its size and what the plan injects.
func (b *body) write(out []byte) []byte {
	p := &b.planner
	a := b.asm()
	a.b = b.codeBuffer[:0]
	a.local = b.locals
	if p.usesF {
		a.b = appendU32(a.b, b.groups+1)
		a.op(b.data[b.declared:b.code]...).op(1, typeI64)
	} else {
		a.op(b.data[b.start:b.code]...)
	}
	at := uint32(b.code)
	for i := range b.events {
		e := &b.events[i]
		a.op(b.data[at:e.at]...)
		b.instead(a, e)
		at = e.next
		if e.segment == none {
			continue
		}
		if s := &p.segments[e.segment]; s.units > 0 && !s.merged {
			a.count(s.units, s.inLocal, s.parent == none || p.total > largeBody)
			b.mod.Checkpoints++
		}
	}
	b.codeBuffer = a.b
	return append(appendU32(out, uint32(len(a.b))), a.b...)
}

// instead writes what takes the place of an event's instruction.
func (b *body) instead(a *asm, e *event) {
	own := b.data[e.at:e.next]
	switch {
	case e.kind == evPages:
		a.get(glPages)
	case e.kind == evCallIn:
		a.call(e.arg)
	case e.kind == evPay:
		a.call(e.arg).op(own...)
	case e.load:
		a.get(glFuel).setLocal().op(own...)
	case e.spill && e.kind == evEnd:
		a.op(own...).getLocal().set(glFuel)
	case e.spill:
		a.getLocal().set(glFuel).op(own...)
	default:
		a.op(own...)
	}
}
