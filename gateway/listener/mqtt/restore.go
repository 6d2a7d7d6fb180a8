package mqtt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

// maxDamage bounds the searches for damaged keys at a start, and with it how much
// damage the server starts with.
const maxDamage = 1 << 16

// scan calls fn for the keys of a kind whose names begin with prefix. A damaged
// value ends no scan: it is searched for, reported and passed over. fn returns an
// error for a record that it cannot read, which is reported and passed over, too.
func (s *Server) scan(kind store.Kind, prefix string, fn func(name string, value []byte) error) error {
	left := maxDamage
	return s.scanFrom(kind, prefix, "", &left, fn)
}

// scanFrom is scan for names above last. left is how many scans it may use.
func (s *Server) scanFrom(kind store.Kind, prefix, last string, left *int, fn func(name string, value []byte) error) error {
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
	for b := range 256 { // whichever of the names with one byte more it is
		if err := s.scanFrom(kind, prefix+string([]byte{byte(b)}), last, left, fn); err != nil {
			return err
		}
	}
	if *left == before-256 { // none of them: it is the name itself
		s.damaged(prefix, err)
	}
	return nil
}

// damaged reports a record that cannot be read. It stays where it is.
func (s *Server) damaged(name string, err error) {
	s.count.damaged.Add(1)
	s.log.Error("a record of a session, of its queue or of a retained message cannot be read and is passed over; it is lost unless the store is restored from a backup",
		"key", fmt.Sprintf("%q", name), "error", err)
}

// fetch reads the messages of a session that are on its shelf or in flight. It is
// called without locks.
func (s *Server) fetch(ses *session) (map[uint64]*entry, error) {
	ses.mu.Lock()
	needed := ses.outbox.shelved()
	ses.mu.Unlock()
	if !needed {
		return nil, nil
	}
	return s.entries(ses)
}

// entries reads the messages that the store has for a session.
func (s *Server) entries(ses *session) (map[uint64]*entry, error) {
	list := map[uint64]*entry{}
	bodies := map[uint64]*message{}
	err := s.scan(store.Queue, keyName('e', ses.number, nil), func(name string, value []byte) error {
		_, seq, ok := keyNumbers(name)
		e, err := parseEntry(value, true)
		if !ok || err != nil {
			return cmp.Or(err, errRecord)
		}
		if e.body != 0 {
			if e.m = bodies[e.body]; e.m == nil {
				if e.m, err = s.body(e.body); err != nil {
					return err
				}
				bodies[e.body] = e.m
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

// shelvedOrphans reads the messages of a session that ended which are to go to
// other members of a shared group.
func (s *Server) shelvedOrphans(ses *session) (list []item) {
	stored, err := s.entries(ses)
	if err != nil {
		s.log.Error("messages of a shared subscription are lost", "client", ses.key.clientID, "error", err)
	}
	for _, seq := range slices.Sorted(maps.Keys(stored)) {
		if e := stored[seq]; e.shared != nil && e.qos == 1 {
			list = append(list, e.item)
		}
	}
	return list
}

// body reads a shared body.
func (s *Server) body(id uint64) (*message, error) {
	value, _, err := s.journal.store.Get(bodyKey(id))
	if err != nil {
		return nil, fmt.Errorf("reading the body of a message: %w", err)
	}
	m := new(message)
	if err := m.parse(value, nil); err != nil {
		return nil, fmt.Errorf("reading the body %d of a message: %w", id, err)
	}
	return m, nil
}

// restoring is what Restore has read so far, by the sessions' numbers.
type restoring struct {
	server    *Server
	listeners []*Listener
	now       time.Time
	sessions  map[uint64]*session
	left      map[uint64]time.Time
	flights   map[uint64]map[uint64]*flight
	wills     map[uint64][]*will
	strays    []store.Key // of sessions that are gone
	orphans   []orphan
	last      uint64
}

// orphan is an entry whose session is gone.
type orphan struct {
	number uint64
	it     item
}

// Restore reads from the store what an earlier run left: sessions with their
// subscriptions and queues, retained messages and wills. What became due meanwhile,
// the end of a session or a will, happens now; that of a session which was
// connected when the gateway died counts from now. A damaged record is reported in the
// log and counted, and everything else restored. Clients keep the rights that
// their listener, one of these, grants them now. It is to be called once, after the
// router runs and before Serve; without a store it does nothing.
func (s *Server) Restore(listeners ...*Listener) error {
	if s.journal == nil {
		return nil
	}
	r := &restoring{server: s, listeners: listeners, now: time.Now(), sessions: map[uint64]*session{}, left: map[uint64]time.Time{},
		flights: map[uint64]map[uint64]*flight{}, wills: map[uint64][]*will{}}
	for _, step := range []struct {
		kind   store.Kind
		prefix string
		read   func(name string, value []byte) error
	}{
		{store.Sess, "s", r.session}, {store.Sess, "u", r.subscriptions}, {store.Sess, "i", r.incoming},
		{store.Sess, "w", r.will}, {store.Sess, "r", r.retained}, {store.Queue, "f", r.flight}, {store.Queue, "e", r.entry},
	} {
		if err := s.scan(step.kind, step.prefix, step.read); err != nil {
			return fmt.Errorf("restoring MQTT sessions: %w", err)
		}
	}
	s.journal.last.Store(r.last)
	after := r.finish()
	for _, f := range after {
		f()
	}
	for _, ses := range s.allSessions() {
		ses.reconsider(&stage.Change{}, false)
	}
	s.reconsiderRetained(&stage.Change{})
	s.journal.commit(nil)
	s.log.Info("MQTT sessions are restored", "sessions", len(s.sessions), "took", time.Since(r.now).Round(time.Millisecond))
	return nil
}

// number takes a key apart, and sees to it that its numbers are not used again.
func (r *restoring) number(name string) (number, second uint64, err error) {
	number, second, ok := keyNumbers(name)
	if !ok {
		return 0, 0, errRecord
	}
	r.server.numbers = max(r.server.numbers, number)
	if len(name) == 17 {
		r.last = max(r.last, second)
	}
	return number, second, nil
}

func (r *restoring) session(name string, value []byte) error {
	number, _, err := r.number(name)
	if err != nil {
		return err
	}
	var rec sessionRecord
	if err := rec.parse(value); err != nil {
		return err
	}
	s := r.server
	g := &stage.Grant{Namespace: rec.namespace, Application: rec.application, Device: rec.device}
	ses := &session{server: s, key: sessionKey{rec.namespace, rec.clientID}, principal: rec.principal,
		application: rec.application, number: number, expiry: rec.expiry}
	ses.space = s.space(g)
	ses.space.keepers.Add(1)
	ses.space.sessions++
	ses.keeps.Store(true)
	if other := s.sessions[ses.key]; other != nil && other.expiry > 0 { // it cannot be; the newer one counts
		s.log.Error("two sessions of one client are stored", "client", rec.clientID)
	}
	ses.device = s.devices.enter(g, ses)
	s.sessions[ses.key] = ses
	r.sessions[number] = ses
	r.left[number] = rec.left
	if ses.since = rec.left; rec.left.IsZero() {
		ses.since = r.now
	}
	if rec.last != nil {
		ses.from = r.sender(rec.last, ses)
	}
	return nil
}

func (r *restoring) subscriptions(name string, value []byte) error {
	number, _, err := r.number(name)
	if err != nil {
		return err
	}
	ses := r.sessions[number]
	if ses == nil {
		r.strays = append(r.strays, sessKey('u', number))
		return nil
	}
	return parseSubscriptions(value, func(topic string, sub *subscription) {
		sub.session = ses
		if ses.subs == nil {
			ses.subs = map[string]*subscription{}
		}
		ses.subs[topic] = sub
		ses.space.subscribe(sub, 2, r.now)
	}, func(rd *reader) {
		rd.session, rd.left = ses, true
		if ses.readers == nil {
			ses.readers = map[string]*reader{}
		}
		ses.readers[rd.filter] = rd
	})
}

func (r *restoring) incoming(name string, _ []byte) error {
	number, id, err := r.number(name)
	if err != nil {
		return err
	}
	ses := r.sessions[number]
	if ses == nil {
		r.strays = append(r.strays, incomingKey(number, uint16(id)))
		return nil
	}
	if ses.incoming == nil {
		ses.incoming = map[uint16]*pending{}
	}
	ses.incoming[uint16(id)] = nil
	return nil
}

// sender makes a sender as it was. One whose listener is no more has no rights.
func (r *restoring) sender(rec *senderRecord, ses *session) *sender {
	via := &Listener{Name: rec.listener}
	for _, l := range r.listeners {
		if l.Name == rec.listener {
			via = l
		}
	}
	g := &rec.grant
	if via.Auth == nil {
		g = powerless(g)
	}
	from := r.server.newSender(g, rec.clientID, rec.username, rec.peer, rec.version, via)
	from.session = ses
	return from
}

func (r *restoring) will(name string, value []byte) error {
	number, seq, err := r.number(name)
	if err != nil {
		return err
	}
	w := &will{number: number, seq: seq}
	var from senderRecord
	if err := w.parse(value, &from); err != nil {
		return err
	}
	s := r.server
	ses := r.sessions[number]
	if ses == nil { // it ended, and its will was on its way
		ses = &session{server: s, number: number, ended: true, space: s.space(&from.grant)}
	}
	w.from = r.sender(&from, ses)
	w.from.spoken = true
	w.from.renew()
	r.wills[number] = append(r.wills[number], w)
	return nil
}

func (r *restoring) retained(name string, value []byte) error {
	space, _, ok := retainedNames(name)
	if !ok {
		return errRecord
	}
	m := new(message)
	var by senderRecord
	if err := m.parse(value, &by); err != nil {
		return err
	}
	if by.clientID != "" {
		m.from = r.sender(&by, nil)
	}
	m.retain = true
	if !m.expired(r.now) {
		r.server.spaceOf(space).retained.set(m, math.MaxInt, math.MaxInt)
	}
	return nil
}

func (r *restoring) flight(name string, value []byte) error {
	number, seq, err := r.number(name)
	if err != nil {
		return err
	}
	f := &flight{tried: true}
	if err := f.parse(value); err != nil {
		return err
	}
	f.seq = seq
	if r.flights[number] == nil {
		r.flights[number] = map[uint64]*flight{}
	}
	r.flights[number][seq] = f
	return nil
}

func (r *restoring) entry(name string, value []byte) error {
	number, seq, err := r.number(name)
	if err != nil {
		return err
	}
	e, err := parseEntry(value, false)
	if err != nil {
		return err
	}
	e.seq = seq
	if e.body != 0 {
		r.last = max(r.last, e.body)
		r.server.journal.refer(e.body, 1)
	}
	ses := r.sessions[number]
	if ses == nil {
		r.orphans = append(r.orphans, orphan{number, e.item})
		return nil
	}
	if f := r.flights[number][seq]; f != nil {
		f.body = e.body
		if e.shared != nil {
			e.shared.session = ses
			f.shared = e.shared
		}
		f.bound = true
		return nil
	}
	ses.outbox.put(slot{seq: seq, body: e.body, expires: int64(since(e.expires)), size: int32(e.size), qos: e.qos, shared: e.shared != nil})
	return nil
}

// finish puts everything in its place, and returns what is to be done without
// locks.
func (r *restoring) finish() (after []func()) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, ses := range r.sessions {
		ses.mu.Lock()
		for seq, f := range r.flights[number] {
			if !f.released && !f.bound { // landed; the lazy deletion of this key was lost
				s.journal.delete(queueKey('f', number, seq))
				continue
			}
			ses.outbox.restore(f)
		}
		after = append(after, r.resume(ses)...)
		ses.mu.Unlock()
	}
	for number, list := range r.wills {
		if r.sessions[number] == nil {
			for _, w := range list {
				after = append(after, w.send)
			}
		}
	}
	if s.count.damaged.Load() == 0 { // else their session may only be unreadable
		for i := range r.orphans {
			s.journal.forget(r.orphans[i].number, &r.orphans[i].it, true)
		}
		for _, k := range r.strays {
			s.journal.delete(k)
		}
	}
	return after
}

// restore puts a flight of an earlier run back.
func (o *outbox) restore(f *flight) {
	if o.flights == nil {
		o.flights = map[uint16]*flight{}
	}
	f.number = f.seq
	o.number = max(o.number, f.seq)
	o.flights[f.id] = f
}

// resume starts the times of a session. Both locks are held.
func (r *restoring) resume(ses *session) (after []func()) {
	s := r.server
	left := r.left[ses.number]
	ses.account()
	lived := left.IsZero() // connected when the gateway died
	if lived {
		left = r.now
		ses.record(left)
	}
	list := r.wills[ses.number]
	slices.SortFunc(list, func(a, b *will) int { return cmp.Compare(a.seq, b.seq) })
	for i, w := range list {
		switch {
		case i < len(list)-1: // of an earlier connection, and on its way
			after = append(after, w.send)
			continue
		case w.due.IsZero():
			w.due = r.now.Add(min(w.delay, ses.expiry))
			if w.due.After(r.now) {
				w.store(ses)
			}
		}
		if delay := w.due.Sub(r.now); delay > 0 {
			ses.will = w
			ses.willTimer = time.AfterFunc(delay, func() { ses.sendWill(w) })
		} else {
			after = append(after, w.send)
		}
	}
	switch over := ses.expiry - r.now.Sub(left); {
	case ses.expiry == forever:
	case over > 0:
		ses.leave(over)
	default:
		after = append(after, s.end(ses)...)
	}
	return after
}
