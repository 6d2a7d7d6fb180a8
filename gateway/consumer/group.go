package consumer

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/stage"
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
	dirty   bool // the position differs from the stored one
	stored  time.Time

	// ahead are records that were read and not handed out yet, so that an
	// acknowledgement does not cost a read of the store. The pump's alone.
	ahead []stage.Record
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
	deliver func(stage.Record)
	out     map[uint64]struct{} // handed to this member, not acknowledged
	left    bool
}

// signal makes the pump look again.
func (g *group) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// join adds a member and starts the pump if it does not run. Consumer.mu is held.
func (g *group) join(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = append(g.members, m)
	if !g.pumping {
		g.pumping = true
		g.c.pumps.Add(1)
		go g.pump()
	}
	g.signal()
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
	if _, ok := m.out[offset]; !ok {
		return
	}
	full := len(m.out) >= m.window
	delete(m.out, offset)
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
	m.out = nil
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
		g.pumping, g.ahead = false, nil
		g.mu.Unlock()
		g.c.idle(g)
		return false, false
	}
	room, redo, next := g.room(), slices.Clone(g.redo[:min(len(g.redo), readRecords)]), g.next
	g.mu.Unlock()
	if room == 0 || g.paused.Load() {
		return false, true
	}
	repeats, gone, err := g.reread(redo[:min(len(redo), room)])
	if err == nil && room > len(repeats) && len(g.ahead) == 0 {
		err = g.readAhead(next)
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
	handed := g.hand(repeats, gone)
	return (handed > 0 || len(gone) > 0) && err == nil, true
}

// room is the sum of the members' credit. g.mu is held.
func (g *group) room() int {
	n := 0
	for _, m := range g.members {
		n += m.window - len(m.out)
	}
	return n
}

// reread fetches records that members left unacknowledged; gone are those that
// retention has removed since.
func (g *group) reread(redo []uint64) (records []stage.Record, gone []uint64, err error) {
	size := 0
	for _, want := range redo {
		if size >= readBytes {
			break
		}
		found := false
		err := g.c.store.Read(g.key.log, want, 1, func(offset uint64, _ time.Time, record []byte) bool {
			if found = offset == want; found {
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

// readAhead fetches the next new records.
func (g *group) readAhead(next uint64) error {
	size := 0
	return g.c.store.Read(g.key.log, next, readRecords, func(offset uint64, _ time.Time, record []byte) bool {
		g.ahead = append(g.ahead, stage.Record{Offset: offset, Event: slices.Clone(record)})
		size += len(record)
		return size < readBytes
	})
}

// hand assigns repeats, then new records, to members with room, and delivers
// them. Only the pump calls it, so g.redo can only have grown since it was read.
func (g *group) hand(repeats []stage.Record, gone []uint64) int {
	type handover struct {
		to     *member
		record stage.Record
	}
	var out []handover
	g.mu.Lock()
	for _, offset := range gone {
		g.finish(offset)
		g.redo = slices.DeleteFunc(g.redo, func(o uint64) bool { return o == offset })
	}
	take := func(r stage.Record) bool {
		m := g.pick()
		if m == nil {
			return false
		}
		m.out[r.Offset] = struct{}{}
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
	if len(g.ahead) == 0 {
		g.ahead = nil
	}
	g.mu.Unlock()
	g.c.stats.delivered.Add(uint64(len(out)))
	for _, h := range out {
		h.to.deliver(h.record)
	}
	return len(out)
}

// pick returns the next member in turn that has room, or nil. g.mu is held.
func (g *group) pick() *member {
	for range g.members {
		g.turn = (g.turn + 1) % len(g.members)
		if m := g.members[g.turn]; len(m.out) < m.window {
			return m
		}
	}
	return nil
}

var _ stage.Membership = (*member)(nil)
