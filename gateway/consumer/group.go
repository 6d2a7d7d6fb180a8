package consumer

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

const (
	// readRecords and readBytes bound what one turn of a pump holds in memory.
	readRecords = 256
	readBytes   = 4 << 20
	// readAgain is the wait after a log could not be read.
	readAgain = time.Second
)

// group is the readers that share one position in a log. A reader of its own
// is a group of one that is not stored.
type group struct {
	c    *Consumer
	key  groupKey
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	members []*member
	turn    int     // the member that is asked first for the next record
	next    uint64  // the first offset that was never handed out
	out     []entry // handed out, ascending; the first one is not done
	redo    []uint64
	pumping bool
	filter  stage.Filter // of all members; nil: everything
	stale   bool         // what the pump read was chosen by an earlier filter
	dirty   bool         // the position differs from the stored one
	stored  time.Time

	// ahead are records that were read and not handed out yet, so that an
	// acknowledgement does not cost a read of the store; read is the offset behind the last
	// one that was looked at. The pump's alone.
	ahead []stage.Record
	read  uint64
	// paused says that a read failed and the next one has to wait.
	paused atomic.Bool
}

// entry is a record that was handed out.
type entry struct {
	offset uint64
	done   bool
}

// member is one reader in a group.
type member struct {
	group   *group
	window  int
	bytes   int
	filter  stage.Filter
	deliver func(stage.Record)
	out     map[uint64]int // handed to this member, not acknowledged, with the size
	size    int            // of them all
	left    bool
}

// full says whether the member has room for no further record. g.mu is held.
func (m *member) full() bool { return len(m.out) >= m.window || m.size >= m.bytes }

// signal makes the pump look again.
func (g *group) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// join adds a member and starts the pump if it does not run. A member with another filter
// than the others is refused: what the group's position has passed, each of them would have
// chosen or left. Consumer.mu is held.
func (g *group) join(m *member) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) > 0 && filterText(m.filter) != filterText(g.filter) {
		return &stage.Error{Code: event.ImplementationSpecificError, Reason: fmt.Sprintf(
			"the members of the group have the filter %q: use the same, or another group", filterText(g.filter))}
	}
	if filterText(m.filter) != filterText(g.filter) {
		g.filter, g.stale = m.filter, g.pumping
	}
	g.members = append(g.members, m)
	if !g.pumping {
		g.pumping = true
		g.c.pumps.Add(1)
		go g.pump()
	}
	g.signal()
	return nil
}

// filterText is a filter's text, none for no filter.
func filterText(f stage.Filter) string {
	if f == nil {
		return ""
	}
	return f.String()
}

// dissolve ends every membership.
func (g *group) dissolve() {
	g.mu.Lock()
	members := slices.Clone(g.members)
	g.mu.Unlock()
	for _, m := range members {
		m.Leave()
	}
}

// committed is the offset below which everything is done. g.mu is held.
func (g *group) committed() uint64 {
	if len(g.out) > 0 {
		return g.out[0].offset
	}
	return g.next
}

// finish marks a handed-out record as done. g.mu is held.
func (g *group) finish(offset uint64) {
	i, ok := slices.BinarySearchFunc(g.out, offset, func(e entry, o uint64) int { return cmp.Compare(e.offset, o) })
	if !ok {
		return
	}
	g.out[i].done = true
	if i > 0 {
		return
	}
	n := 1
	for n < len(g.out) && g.out[n].done {
		n++
	}
	g.out = g.out[n:]
	g.dirty = true
}

// Ack implements stage.Membership.
func (m *member) Ack(offset uint64) {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	size, ok := m.out[offset]
	if !ok {
		return
	}
	full := m.full()
	delete(m.out, offset)
	m.size -= size
	g.finish(offset)
	if full || len(m.out) == 0 {
		g.signal()
	}
}

// Leave implements stage.Membership.
func (m *member) Leave() {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.left {
		return
	}
	m.left = true
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	for offset := range m.out {
		g.redo = append(g.redo, offset)
	}
	slices.Sort(g.redo)
	m.out, m.size = nil, 0
	g.signal()
}

// pump hands out records while the group has members.
func (g *group) pump() {
	defer g.c.pumps.Done()
	for range g.wake {
		for {
			more, ok := g.turnOnce()
			if !ok {
				return
			}
			if !more {
				break
			}
		}
	}
}

// turnOnce hands out as many records as the members have room for. ok is false
// when the last member is gone and the pump must end.
func (g *group) turnOnce() (more, ok bool) {
	g.mu.Lock()
	if len(g.members) == 0 {
		g.pumping = false
		g.discard()
		g.mu.Unlock()
		g.c.idle(g)
		return false, false
	}
	room, redo, next, filter := g.room(), slices.Clone(g.redo[:min(len(g.redo), readRecords)]), g.next, g.filter
	limit := g.readLimit()
	g.mu.Unlock()
	if room == 0 || g.paused.Load() {
		return false, true
	}
	repeats, gone, err := g.reread(redo[:min(len(redo), room)], filter, limit)
	if err == nil && room > len(repeats) && len(g.ahead) == 0 {
		err = g.readAhead(next, filter, limit)
	}
	if err != nil {
		g.c.stats.readErrors.Add(1)
		g.c.log.Error("a consumer's log could not be read; trying again", "log", string(g.key.log), "group", g.key.name, "error", err)
		g.paused.Store(true)
		time.AfterFunc(readAgain, func() {
			g.paused.Store(false)
			g.signal()
		})
	}
	moved := g.hand(repeats, gone)
	return moved && err == nil, true
}

// room is the sum of the members' credit. g.mu is held.
func (g *group) room() int {
	n := 0
	for _, m := range g.members {
		if !m.full() {
			n += m.window - len(m.out)
		}
	}
	return n
}

// readLimit bounds the bytes that one turn holds in memory: no more than any member would
// have out. g.mu is held.
func (g *group) readLimit() int {
	limit := readBytes
	for _, m := range g.members {
		limit = min(limit, m.bytes)
	}
	return limit
}

// reread fetches records that members left unacknowledged; gone are those that
// retention has removed since, and those that a filter which came later leaves out.
func (g *group) reread(redo []uint64, filter stage.Filter, limit int) (records []stage.Record, gone []uint64, err error) {
	size := 0
	for _, want := range redo {
		if size >= limit {
			break
		}
		found := false
		err := g.c.store.Read(g.key.log, want, 1, func(offset uint64, _ time.Time, record []byte) bool {
			if found = offset == want && chosen(filter, record); found {
				records = append(records, stage.Record{Offset: offset, Event: slices.Clone(record)})
				size += len(record)
			}
			return false
		})
		if err != nil {
			return records, gone, err
		}
		if !found {
			gone = append(gone, want)
		}
	}
	return records, gone, nil
}

// discard drops what was read and not handed out; it will be read again. Only the pump
// calls it.
func (g *group) discard() { g.ahead, g.read = nil, 0 }

// chosen says whether a filter, which may be nil, chooses a record.
func chosen(filter stage.Filter, record []byte) bool { return filter == nil || filter.Match(record) }

// readAhead fetches the next new records that the filter chooses.
func (g *group) readAhead(next uint64, filter stage.Filter, limit int) error {
	size := 0
	g.read = next
	return g.c.store.Read(g.key.log, next, readRecords, func(offset uint64, _ time.Time, record []byte) bool {
		g.read = offset + 1
		if !chosen(filter, record) {
			g.c.stats.filtered.Add(1)
			return true
		}
		g.ahead = append(g.ahead, stage.Record{Offset: offset, Event: slices.Clone(record)})
		size += len(record)
		return size < limit
	})
}

// hand assigns repeats, then new records, to members with room, and delivers
// them. Only the pump calls it, so g.redo can only have grown since it was read. moved says
// that there may be more to do: something was handed out, or passed.
func (g *group) hand(repeats []stage.Record, gone []uint64) (moved bool) {
	type handover struct {
		to     *member
		record stage.Record
	}
	var out []handover
	g.mu.Lock()
	if g.stale {
		g.stale = false
		g.discard()
		g.mu.Unlock()
		return true
	}
	for _, offset := range gone {
		g.finish(offset)
		g.redo = slices.DeleteFunc(g.redo, func(o uint64) bool { return o == offset })
	}
	take := func(r stage.Record) bool {
		m := g.pick()
		if m == nil {
			return false
		}
		m.out[r.Offset] = len(r.Event)
		m.size += len(r.Event)
		out = append(out, handover{m, r})
		return true
	}
	for _, r := range repeats {
		if !take(r) {
			break
		}
		at, _ := slices.BinarySearch(g.redo, r.Offset)
		g.redo = slices.Delete(g.redo, at, at+1)
		g.c.stats.redelivered.Add(1)
	}
	for len(g.ahead) > 0 && len(out) < readRecords && take(g.ahead[0]) {
		g.out = append(g.out, entry{offset: g.ahead[0].Offset})
		g.next, g.dirty = g.ahead[0].Offset+1, true
		g.ahead[0] = stage.Record{}
		g.ahead = g.ahead[1:]
	}
	moved = len(out) > 0 || len(gone) > 0
	if len(g.ahead) == 0 {
		g.ahead = nil
		if g.read > g.next { // the filter left the rest out, which is done with that
			g.next, g.dirty, moved = g.read, true, true
		}
	}
	g.mu.Unlock()
	g.c.stats.delivered.Add(uint64(len(out)))
	for _, h := range out {
		h.to.deliver(h.record)
	}
	return moved
}

// pick returns the next member in turn that has room, or nil. g.mu is held.
func (g *group) pick() *member {
	for range g.members {
		g.turn = (g.turn + 1) % len(g.members)
		if m := g.members[g.turn]; !m.full() {
			return m
		}
	}
	return nil
}

var _ stage.Membership = (*member)(nil)
