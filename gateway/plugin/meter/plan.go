package meter

// A segment is code that is paid for at its start. Paying must come before the work and be at
// least as much, so an instruction may be moved only to a segment that is always run before it (a
// dominator). Structured code makes that easy: whatever is inside or behind a block was preceded by what
// opened the block. So a segment starts at the function, at each loop, and tentatively wherever
// control may skip or join; a tentative one that turns out short is added to the dominating one.
//
// Only the function's and the loops' segments check that the fuel is not below zero, because every
// cycle passes one of those; in large functions all do.
type segment struct {
	units   int64
	parent  int32 // the dominating segment that takes over; none for functions and loops
	merged  bool
	inLocal bool // fuel is in the local here
}

const (
	none         = -1
	shortSegment = 16      // units; shorter ones are added to their parent
	largeBody    = 1 << 16 // units; from here on every segment checks
)

type frame struct {
	segment int32 // that was current when the block was opened
	event   int32
	local   bool // a loop that keeps the fuel in the local
}

type planner struct {
	segments []segment
	frames   []frame
	current  int32
	total    int64
	usesF    bool
	inLocal  bool
}

// begin closes the current segment and starts one behind event e.
func (p *planner) begin(e *event, parent int32) {
	p.settle()
	e.segment = int32(len(p.segments))
	p.current = e.segment
	p.segments = append(p.segments, segment{parent: parent, inLocal: p.inLocal})
}

// settle adds the current segment to its parent if it is short.
func (p *planner) settle() {
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

// plan divides the function into segments and decides where its fuel is kept: outermost loops
// that call nothing keep it in a local, which is a register, and pay it back wherever they are left.
func (b *body) plan() {
	p := &b.planner
	p.segments, p.frames = p.segments[:0], p.frames[:0]
	p.total, p.usesF, p.inLocal = 0, false, false
	for i := range b.events {
		e := &b.events[i]
		if e.kind != evStart && e.kind != evLoop {
			p.charge(int64(e.plain) + int64(e.units))
		}
		switch e.kind {
		case evStart:
			p.frames = append(p.frames, frame{segment: none})
			e.segment = 0
			p.current = 0
			p.segments = append(p.segments, segment{parent: none})
			p.charge(int64(e.units))
		case evBlock, evIf:
			p.frames = append(p.frames, frame{segment: p.current, event: int32(i)})
			if e.kind == evIf {
				p.begin(e, p.current)
			}
		case evLoop:
			p.charge(int64(e.plain))
			p.loop(e, int32(i))
		case evElse:
			p.begin(e, p.frames[len(p.frames)-1].segment)
		case evEnd:
			p.end(e)
		case evBranchIf:
			e.spill = p.leaves(e.arg)
			p.begin(e, p.current)
		case evBranch:
			e.spill = p.leaves(e.arg)
		}
	}
	p.settle()
}

func (p *planner) charge(units int64) {
	p.segments[p.current].units += units
	p.total += units
}

func (p *planner) loop(e *event, i int32) {
	f := frame{segment: p.current, event: i}
	if !e.calls && !p.inLocal {
		f.local, e.load = true, true
		p.inLocal, p.usesF = true, true
	}
	p.frames = append(p.frames, f)
	p.begin(e, none)
	p.charge(int64(e.units))
}

func (p *planner) end(e *event) {
	last := len(p.frames) - 1
	f := p.frames[last]
	p.frames = p.frames[:last]
	if f.local {
		e.spill, p.inLocal = true, false
	}
	if last > 0 {
		p.begin(e, f.segment)
	}
}

// leaves tells whether a branch out of depth blocks leaves the loop that keeps the fuel in the local.
func (p *planner) leaves(depth uint32) bool {
	if !p.inLocal {
		return false
	}
	for i := len(p.frames) - 1; i >= 0; i-- {
		if p.frames[i].local {
			// The label of a loop is its start: a branch to it stays inside.
			return len(p.frames)-1-int(depth) < i
		}
	}
	return false
}
