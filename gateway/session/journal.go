package session

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/store"
)

const (
	// laziness is how long a change that nobody waits for may stay unwritten: an
	// acknowledgement by a receiver, say, that a crash would have it repeat.
	laziness = 20 * time.Millisecond
)

// journal writes the changes of sessions to the store, in the order in which they
// were noted: a change is durable only together with all that were noted before.
// What is prepared for the commit of an event takes its own way there; its keys are
// not noted here before that commit is over. All methods are safe for concurrent
// use. Nothing else is locked under mu, and it is held during store.Commit, which
// waits for the disk at worst, never for a callback.
type journal struct {
	store Store
	log   *slog.Logger
	last  atomic.Uint64 // the newest number given out, for keys
	most  int           // changes that are noted before they are written

	mu     sync.Mutex
	noted  map[store.Key]change // not committed yet; the last change of a key
	batch  store.Batch          // scratch
	timer  *time.Timer          // has the noted committed
	armed  bool
	bodies map[uint64]int // shared bodies: how many entries refer to each
}

// change is what is to happen to a key.
type change struct {
	value   []byte // nil: deleted
	expires time.Time
	first   bool // the store does not have the key yet
}

func newJournal(st Store, most int, log *slog.Logger) *journal {
	j := &journal{store: st, log: log, most: most, noted: map[store.Key]change{}, bodies: map[uint64]int{}}
	j.timer = time.AfterFunc(time.Hour, func() { j.commit(nil) })
	j.timer.Stop()
	return j
}

// next is a number that no key has.
func (j *journal) next() uint64 { return j.last.Add(1) }

// put notes a write.
func (j *journal) put(k store.Key, value []byte) { j.note(k, change{value: value}) }

// create notes the first write of a key: if it is deleted soon enough, the store
// never hears of it.
func (j *journal) create(k store.Key, value []byte) { j.note(k, change{value: value, first: true}) }

// delete notes a deletion.
func (j *journal) delete(k store.Key) { j.note(k, change{}) }

func (j *journal) note(k store.Key, c change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noteLocked(k, c)
	j.commitSoonLocked()
}

// noteLocked is note for those who hold mu.
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

// commitSoonLocked has what is noted committed before long. The caller holds mu.
func (j *journal) commitSoonLocked() {
	switch {
	case len(j.noted) >= j.most:
		j.commitLocked(nil)
	case !j.armed:
		j.armed = true
		j.timer.Reset(laziness)
	}
}

// deleteEntry notes that an entry, and what there is of a flight, is not needed any
// more, and with the last entry that refers to it a shared body.
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

// unrefLocked drops a reference to a shared body. The caller holds mu.
func (j *journal) unrefLocked(body uint64) {
	if body == 0 {
		return
	}
	if j.bodies[body]--; j.bodies[body] <= 0 {
		delete(j.bodies, body)
		j.noteLocked(bodyKey(body), change{})
	}
}

// refer counts n entries more that refer to a shared body.
func (j *journal) refer(body uint64, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bodies[body] += n
}

// dropBody forgets a shared body that never was committed.
func (j *journal) dropBody(body uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.bodies, body)
}

// commit makes what is noted durable, as soon as the store can. done, which may
// be nil, is called when it is, or with the error, from another goroutine.
func (j *journal) commit(done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.commitLocked(done)
}

// commitLocked is commit for those who hold mu.
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

// eraseLocked notes the end of a stored session, with all that belongs to it. Messages
// that other members of a shared group are to have are read and delivered first, which
// is left to what it returns, and so are those whose commit is under way; a crash
// before that finds a session whose time is up.
// The caller holds the session's lock.
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
		o.reserved++ // for all of them
	}
	if o.reserved > 0 {
		s.expiry = 0
		s.recordLocked(time.Now())
	} else { // first: what belongs to it means nothing without
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

// deleteEntries deletes the messages of a session that is gone: those queued and those in
// flight.
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

// deleteIfEmptyLocked notes that an ended session is no more, once nothing of it is left that
// another member of a shared group may have to get. The caller holds the lock.
func (s *session) deleteIfEmptyLocked() {
	if s.state == sessionEnded && s.outbox.reserved == 0 {
		s.server.journal.delete(sessKey('s', s.number))
	}
}
