package session

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tributary.io/gateway/store"
)

// maxDamage is how many searches for damaged keys one start may make. A store with more damage is
// refused.
const maxDamage = 1 << 16

// scan calls fn for the keys of a kind whose names begin with prefix. A damaged value does not end
// the scan: it is searched for, reported and passed over. A record that fn returns an error for is
// reported and passed over, too.
func (s *Sessions) scan(kind store.Kind, prefix string, fn func(name string, value []byte) error) error {
	left := maxDamage
	return s.scanFrom(kind, prefix, "", &left, fn)
}

// scanFrom is scan for names above last. left is how many more scans it may make.
func (s *Sessions) scanFrom(kind store.Kind, prefix, last string, left *int, fn func(name string, value []byte) error) error {
	if *left--; *left < 0 {
		return fmt.Errorf("too much is damaged in the session store: %w; restore it from a backup", store.ErrCorrupt)
	}
	err := s.journal.store.Scan(kind, prefix, func(name string, value []byte, _ store.Revision) bool {
		if name > last || last == "" {
			last = name
			if err := fn(name, value); err != nil {
				s.damaged(name, err)
			}
		}
		return true
	})
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	before := *left
	for b := range 256 { // the damaged name continues with one of these bytes
		if err := s.scanFrom(kind, prefix+string([]byte{byte(b)}), last, left, fn); err != nil {
			return err
		}
	}
	if *left == before-256 { // with none of them, so the name itself is damaged
		s.damaged(prefix, err)
	}
	return nil
}

// damaged reports a record that cannot be read. The record stays in the store.
func (s *Sessions) damaged(name string, err error) {
	s.count.damaged.Add(1)
	s.log.Error("a record of a session, of its queue or of a retained message cannot be read and is passed over; "+
		"it is lost unless the store is restored from a backup",
		"key", fmt.Sprintf("%q", name), "error", err)
}

// fetch reads the messages that a session needs from the store: those on its shelf or in flight. The
// caller holds no lock.
func (s *Sessions) fetch(ses *session) (map[uint64]*entry, error) {
	ses.mu.Lock()
	needed := ses.outbox.shelved()
	ses.mu.Unlock()
	if !needed {
		return nil, nil
	}
	return s.entries(ses)
}

// entries reads all messages of a session from the store.
func (s *Sessions) entries(ses *session) (map[uint64]*entry, error) {
	list := map[uint64]*entry{}
	bodies := map[uint64]*Message{}
	err := s.scan(store.Queue, keyName('e', ses.number, nil), func(name string, value []byte) error {
		_, seq, ok := keyNumbers(name)
		e, err := parseEntry(value, true)
		if !ok || err != nil {
			return cmp.Or(err, errRecord)
		}
		if e.body != 0 {
			if e.Message = bodies[e.body]; e.Message == nil {
				if e.Message, err = s.body(e.body); err != nil {
					return err
				}
				bodies[e.body] = e.Message
			}
		}
		e.seq = seq
		if e.shared != nil {
			e.shared.session = ses
		}
		list[seq] = &e
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the queue of a session: %w", err)
	}
	return list, nil
}

// storedOrphans adds to known the messages of an ended session that only the store has, and that
// other members of a shared group should get. It leaves out those in known, and those in sent, which
// the client may have received.
func (s *Sessions) storedOrphans(ses *session, known []Item, sent map[uint64]bool) []Item {
	stored, err := s.entries(ses)
	if err != nil {
		s.log.Error("messages of a shared subscription are lost", "client", ses.key.clientID, "error", err)
	}
	for i := range known {
		delete(stored, known[i].seq)
	}
	for _, seq := range slices.Sorted(maps.Keys(stored)) {
		if e := stored[seq]; e.shared != nil && !sent[seq] {
			known = append(known, e.Item)
		}
	}
	return known
}

// body reads a shared body from the store.
func (s *Sessions) body(id uint64) (*Message, error) {
	value, _, err := s.journal.store.Get(bodyKey(id))
	if err != nil {
		return nil, fmt.Errorf("reading the body of a message: %w", err)
	}
	m := new(Message)
	if err := m.parse(value, nil); err != nil {
		return nil, fmt.Errorf("reading the body %d of a message: %w", id, err)
	}
	return m, nil
}
