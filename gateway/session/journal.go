package session

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/store"
)

const (
	// laziness is how long a change may stay unwritten if nobody waits for it, such as a receiver's
	// acknowledgement. After a crash the message would be sent again.
	laziness = 20 * time.Millisecond
)

// journal writes the changes of sessions to the store in the order in which they were noted. A
// change is durable only together with all earlier ones. What is prepared for the commit of an event
// does not go through the journal; the journal notes nothing about those keys before that commit is
// over. All methods are safe for concurrent use. Nothing else is locked under mu. mu is held during
// store.Commit, which waits for the disk at worst, never for a callback.
type journal struct {
	store Store
	log   *slog.Logger
	last  atomic.Uint64 // the newest number given to a key
	most  int           // how many changes are noted before they are written

	mu     sync.Mutex
	noted  map[store.Key]change // not committed yet: the last change of each key
	batch  store.Batch          // reused by each commit
	timer  *time.Timer          // commits what is noted
	armed  bool
	bodies map[uint64]int // how many entries refer to each shared body
}

// change is what will happen to a key.
type change struct {
	value   []byte // nil: the key is deleted
	expires time.Time
	first   bool // the store does not have the key yet
}

func newJournal(st Store, most int, log *slog.Logger) *journal {
	j := &journal{store: st, log: log, most: most, noted: map[store.Key]change{}, bodies: map[uint64]int{}}
	j.timer = time.AfterFunc(time.Hour, func() { j.commit(nil) })
	j.timer.Stop()
	return j
}

// next returns a number that no key has.
func (j *journal) next() uint64 { return j.last.Add(1) }

// put notes a write.
func (j *journal) put(k store.Key, value []byte) { j.note(k, change{value: value}) }

// create notes the first write of a key. If the key is deleted before the next commit, the store
// never learns of it.
func (j *journal) create(k store.Key, value []byte) { j.note(k, change{value: value, first: true}) }

// delete notes a deletion.
func (j *journal) delete(k store.Key) { j.note(k, change{}) }

func (j *journal) note(k store.Key, c change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noteLocked(k, c)
	j.commitSoonLocked()
}

// noteLocked notes a change.
func (j *journal) noteLocked(k store.Key, c change) {
	if old, ok := j.noted[k]; ok && old.first {
		if c.value == nil {
			delete(j.noted, k)
			return
		}
		c.first = true
	}
	j.noted[k] = c
}

// commitSoonLocked has the noted changes committed before long.
func (j *journal) commitSoonLocked() {
	switch {
	case len(j.noted) >= j.most:
		j.commitLocked(nil)
	case !j.armed:
		j.armed = true
		j.timer.Reset(laziness)
	}
}

// deleteEntry notes that an entry is deleted, and its flight if flying is true. The last entry that
// refers to a shared body deletes that, too.
func (j *journal) deleteEntry(number uint64, it *Item, flying bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noteLocked(queueKey('e', number, it.seq), change{})
	if flying {
		j.noteLocked(queueKey('f', number, it.seq), change{})
	}
	j.unrefLocked(it.body)
	j.commitSoonLocked()
}

// unrefLocked removes a reference to a shared body.
func (j *journal) unrefLocked(body uint64) {
	if body == 0 {
		return
	}
	if j.bodies[body]--; j.bodies[body] <= 0 {
		delete(j.bodies, body)
		j.noteLocked(bodyKey(body), change{})
	}
}

// refer counts n more entries that refer to a shared body.
func (j *journal) refer(body uint64, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bodies[body] += n
}

// dropBody forgets a shared body that was never committed.
func (j *journal) dropBody(body uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.bodies, body)
}

// commit commits the noted changes. done, which may be nil, is called from another goroutine when
// they are durable, or with the error.
func (j *journal) commit(done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.commitLocked(done)
}

// commitLocked commits the noted changes, see commit.
func (j *journal) commitLocked(done func(error)) {
	j.armed = false
	j.timer.Stop()
	b := &j.batch
	for k, c := range j.noted {
		if c.value != nil {
			b.Puts = append(b.Puts, store.Put{Key: k, Value: c.value, Expires: c.expires})
		} else {
			b.Deletes = append(b.Deletes, k)
		}
	}
	clear(j.noted)
	if len(b.Puts)+len(b.Deletes) > 0 || done != nil {
		err := j.store.Commit(b, func(err error) {
			if err != nil {
				j.log.Error("session state could not be made durable", "error", err)
			}
			if done != nil {
				done(err)
			}
		})
		if err != nil {
			j.log.Error("session state could not be committed", "error", err)
			if done != nil {
				go done(err)
			}
		}
	}
	clear(b.Puts)
	clear(b.Deletes)
	b.Puts, b.Deletes = b.Puts[:0], b.Deletes[:0]
}

// eraseLocked notes the end of a stored session, and deletes what belongs to it. after reads the
// messages that go to other members of a shared group, delivers them, and only then deletes them.
// The session's own record stays until then, and until commits that reserved places are over: a
// crash before that leaves a session that has expired.
func (s *session) eraseLocked() (after afterUnlock) {
	j, o, number := s.server.journal, &s.outbox, s.number
	s.space.storedSessions.Add(-1)
	orphans := o.orphans()
	lacking := false
	var queued []Item
	for i := range o.shelf {
		x := &o.shelf[i]
		queued = append(queued, Item{seq: x.seq, body: x.body})
		lacking = lacking || x.shared && x.qos > 0
	}
	queued = append(queued, o.queue[o.head:]...)
	var flying []Item
	for _, f := range o.flights {
		flying = append(flying, f.Item)
		lacking = lacking || f.orphan() && f.bare()
	}
	sent := o.sentQoS2()
	adopt := lacking || len(orphans) > 0
	if adopt {
		o.reserved++ // one for all of them
	}
	if o.reserved > 0 {
		s.expiry = 0
		s.recordLocked(time.Now())
	} else { // first, because the other records mean nothing without it
		j.delete(sessKey('s', number))
	}
	j.delete(sessKey('u', number))
	for id := range s.incoming {
		j.delete(incomingKey(number, id))
	}
	forget := func() { j.deleteEntries(number, queued, flying) }
	if !adopt {
		forget()
		return nil
	}
	return afterUnlock{func() {
		if lacking {
			orphans = s.server.storedOrphans(s, orphans, sent)
		}
		s.space.adopt(orphans)
		forget()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outbox.reserved--
		s.deleteIfEmptyLocked()
	}}
}

// deleteEntries deletes the messages of a session that has ended.
func (j *journal) deleteEntries(number uint64, queued, flying []Item) {
	for i := range queued {
		if queued[i].seq != 0 {
			j.deleteEntry(number, &queued[i], false)
		}
	}
	for i := range flying {
		if flying[i].seq != 0 {
			j.deleteEntry(number, &flying[i], true)
		}
	}
	j.commit(nil)
}

// deleteIfEmptyLocked deletes the record of an ended session, once no other member of a shared group
// may have to get one of its messages.
func (s *session) deleteIfEmptyLocked() {
	if s.state == sessionEnded && s.outbox.reserved == 0 {
		s.server.journal.delete(sessKey('s', s.number))
	}
}
