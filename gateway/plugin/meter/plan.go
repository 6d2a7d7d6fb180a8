package meter

// A segment is code that is paid for at its start. Paying must come before the work and be at
// least as much, so an instruction may be moved only to a segment that has always been run before it
// (a dominator). Structured code makes that easy: whatever is inside or behind a block was preceded
// by what opened the block. So a segment starts at the function, at each loop, and tentatively
// wherever control may skip or join; a tentative one that turns out short is added to the dominating one.
// The cases of a switch stay apart: Go makes a switch of nearly every function, and moving them
// to its head would charge each jump for all the code.
//
// Only the function's and the loops' segments check that the fuel is not below zero, because every
// cycle passes one of those; in large functions all do.
type segment struct {
	units   int64
	parent  int32 // the dominating segment that takes it over when it is short, or none
	merged  bool
	check   bool
	inLocal bool // the fuel is in the local here
}

const (
	none         = -1
	shortSegment = 16      // units
	largeBody    = 1 << 16 // units; from here on every segment checks
)

// frame is an open block.
type frame struct {
	segment int32 // that was current when it was opened
	event   int32
	scope   bool // the fuel is in the local from its start to its end
}

type planner struct {
	segments []segment
	frames   []frame
	current  int32
	scope    int   // index of the frame whose scope this is, or none
	total    int64 // units of the function
	useLocal bool
	useOuter bool // whether a loop has one around it
}

// plan divides the function into segments and decides where its fuel is kept: a loop that calls
// nothing, or is a state machine, most of whose passes call nothing, keeps it in a local, which is a register,
// and puts it back for calls and wherever it is left.
func (b *body) plan() {
	p := &b.planner
	p.segments, p.frames = p.segments[:0], p.frames[:0]
	p.total, p.useLocal, p.useOuter, p.scope = 0, false, false, none
	for i := range b.events {
		e := &b.events[i]
		if i > 0 {
			p.charge(e.plain)
		}
		switch e.kind {
		case evStart:
			b.planStart(e)
		case evBlock:
			p.charge(e.units)
			p.push(int32(i))
		case evIf:
			p.charge(e.units)
			p.push(int32(i))
			p.begin(e, p.current)
		case evLoop:
			p.push(int32(i))
			if p.scope == none && b.keepsFuel(e) {
				p.enterScope(e)
			}
			e.outer = p.scope != none
			p.useOuter = p.useOuter || e.outer
			p.head(e)
		case evElse:
			p.begin(e, p.frames[len(p.frames)-1].segment)
		case evEnd:
			b.planEnd(e)
		case evBranchIf:
			p.charge(e.units)
			e.spill = p.leaves(e.arg)
			p.begin(e, p.current)
		case evBranch:
			p.charge(e.units)
			e.spill = p.leaves(e.arg)
		case evCall, evPay, evCallIn:
			p.charge(e.units)
			e.spill = e.counts && p.scope != none
		case evPages:
			p.charge(e.units)
		}
	}
	p.settle()
}

// keepsFuel tells whether a loop is worth keeping the fuel in the local.
func (b *body) keepsFuel(e *event) bool {
	return e.kind == evLoop && (!e.counts || e.switches) && !b.opts.onlyGlobal
}

// planStart begins the function. One that starts with a loop, as Go's do, shares its scope and its check.
func (b *body) planStart(e *event) {
	p := &b.planner
	p.push(0)
	first := 1
	for b.events[first].kind == evBlock {
		first++
	}
	shared := b.keepsFuel(&b.events[first])
	if shared {
		p.enterScope(e)
	}
	p.head(e)
	p.segments[p.current].check = !shared
}

func (b *body) planEnd(e *event) {
	p := &b.planner
	p.charge(e.units)
	last := len(p.frames) - 1
	f := p.frames[last]
	p.frames = p.frames[:last]
	if f.scope {
		e.spill, p.scope = true, none
	}
	switch {
	case last == 0:
	case b.events[f.event].table:
		p.begin(e, none)
	default:
		p.begin(e, f.segment)
	}
}

func (p *planner) push(e int32) {
	p.frames = append(p.frames, frame{segment: p.current, event: e})
}

func (p *planner) enterScope(e *event) {
	e.load, p.useLocal = true, true
	p.scope = len(p.frames) - 1
	p.frames[p.scope].scope = true
}

func (p *planner) charge(units uint32) {
	p.segments[p.current].units += int64(units)
	p.total += int64(units)
}

// begin closes the current segment and starts one behind the event.
func (p *planner) begin(e *event, parent int32) {
	p.settle()
	e.segment = int32(len(p.segments))
	p.current = e.segment
	p.segments = append(p.segments, segment{parent: parent, inLocal: p.scope != none})
}

// head begins the segment of the function or a loop.
func (p *planner) head(e *event) {
	p.begin(e, none)
	p.segments[p.current].check = true
	p.charge(e.units)
}

// settle adds the current segment to its parent if it is short.
func (p *planner) settle() {
	if len(p.segments) == 0 {
		return
	}
	s := &p.segments[p.current]
	if s.parent == none || s.units >= shortSegment {
		return
	}
	s.merged = true
	for p.segments[s.parent].merged {
		s.parent = p.segments[s.parent].parent
	}
	p.segments[s.parent].units += s.units
	s.units = 0
}

// leaves tells whether a branch to the label that many blocks out leaves the scope.
func (p *planner) leaves(depth uint32) bool {
	target := len(p.frames) - 1 - int(depth)
	// The label of a loop is its start, so a branch to the scope's own loop stays inside; the
	// function's label is its end.
	return p.scope != none && (target < p.scope || target == 0)
}
