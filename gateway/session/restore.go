package session

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/store"
)

// restoring is what Restore has read so far, by the numbers of sessions.
type restoring struct {
	server   *Sessions
	entrance func(listener string) Entrance
	now      time.Time
	sessions map[uint64]*session
	left     map[uint64]time.Time
	flights  map[uint64]map[uint64]*flight
	wills    map[uint64][]*Will
	strays   []store.Key // keys without a session
	orphans  []orphan
	last     uint64
}

// orphan is an entry without a session.
type orphan struct {
	number uint64
	it     Item
}

// Restore reads what an earlier run left in the store: sessions with subscriptions and queues,
// retained messages and wills. Ends of sessions and wills that became due meanwhile happen now. The
// expiry of a session that was connected when the gateway stopped begins now. A damaged record is
// logged, counted and passed over. Clients get the rights that their listener grants them now;
// entrance returns the listener, or nil. Call Restore once, after the router runs and before
// connections come. It does nothing without a store.
func (s *Sessions) Restore(entrance func(listener string) Entrance) error {
	if s.journal == nil {
		return nil
	}
	r := &restoring{server: s, entrance: entrance, now: time.Now(), sessions: map[uint64]*session{}, left: map[uint64]time.Time{},
		flights: map[uint64]map[uint64]*flight{}, wills: map[uint64][]*Will{}}
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
	r.finish().run()
	for _, ses := range s.allSessions() {
		ses.Reconsider(&access.Change{}, false)
	}
	s.reconsiderRetained(&access.Change{})
	s.journal.commit(nil)
	s.log.Info("MQTT sessions are restored", "sessions", len(s.allSessions()), "took", time.Since(r.now).Round(time.Millisecond))
	return nil
}

// number returns the numbers in a key, and makes sure that they are not used again.
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
	g := &access.Grant{Namespace: rec.namespace, Application: rec.application, Device: rec.device}
	ses := &session{server: s, key: sessionKey{rec.namespace, rec.clientID}, principal: rec.principal,
		application: rec.application, number: number, expiry: rec.expiry}
	ses.space = s.space(g)
	ses.space.storedSessions.Add(1)
	ses.space.sessions++
	ses.stored.Store(true)
	if other := s.sessions[ses.key]; other != nil && other.expiry > 0 { // a bug; the newer session counts
		s.log.Error("two sessions of one client are stored", "client", rec.clientID)
	}
	ses.device = s.devices.add(g, ses)
	s.sessions[ses.key] = ses
	r.sessions[number] = ses
	r.left[number] = rec.left
	if ses.since = rec.left; rec.left.IsZero() {
		ses.since = r.now
	}
	if rec.read != nil {
		ses.client = r.client(rec.read, ses)
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
	return parseSubscriptions(value, func(topic string, sub *subscription, replaying bool) {
		sub.session = ses
		if ses.subs == nil {
			ses.subs = map[string]*subscription{}
		}
		ses.subs[topic] = sub
		if replaying {
			if ses.replays == nil {
				ses.replays = map[string]*replay{}
			}
			ses.replays[topic] = nil // resumeReplaysLocked starts it, when all retained messages are read
		}
		ses.space.subscribe(sub, 2, r.now)
	}, func(rd *LogSubscription) {
		rd.session, rd.state = ses, logLeft
		if ses.logSubs == nil {
			ses.logSubs = map[string]*LogSubscription{}
		}
		ses.logSubs[rd.Filter] = rd
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
		ses.incoming = map[uint16]*Arrival{}
	}
	ses.incoming[uint16(id)] = nil
	return nil
}

// client returns the client of a record. If its listener is gone, it has no rights.
func (r *restoring) client(rec *clientRecord, ses *session) *Client {
	g := &rec.grant
	in := r.entrance(rec.listener)
	if in == nil {
		g = powerless(g)
	}
	who := r.server.NewClient(g, rec.clientID, rec.username, rec.peer, rec.version, rec.listener, in)
	who.Session = ses
	return who
}

func (r *restoring) will(name string, value []byte) error {
	number, seq, err := r.number(name)
	if err != nil {
		return err
	}
	w := &Will{number: number, seq: seq}
	var from clientRecord
	if err := w.parse(value, &from); err != nil {
		return err
	}
	s := r.server
	ses := r.sessions[number]
	if ses == nil { // the session ended, and its will was on its way
		ses = &session{server: s, number: number, state: sessionEnded, space: s.space(&from.grant)}
	}
	w.Client = r.client(&from, ses)
	w.PerMessage = true
	w.Client.renew()
	r.wills[number] = append(r.wills[number], w)
	return nil
}

func (r *restoring) retained(name string, value []byte) error {
	space, _, ok := retainedNames(name)
	if !ok {
		return errRecord
	}
	m := new(Message)
	var by clientRecord
	if err := m.parse(value, &by); err != nil {
		return err
	}
	if by.clientID != "" {
		m.sender = r.client(&by, nil)
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
		r.orphans = append(r.orphans, orphan{number, e.Item})
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
	ses.outbox.putOnShelf(slot{seq: seq, body: e.body, expires: int64(since(e.expires)), size: int32(e.size), qos: e.QoS,
		shared: e.shared != nil})
	return nil
}

// finish connects what was read.
func (r *restoring) finish() (after afterUnlock) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, ses := range r.sessions {
		ses.mu.Lock()
		for seq, f := range r.flights[number] {
			if !f.released && !f.bound { // it landed, and the deletion of its key was not written
				s.journal.delete(queueKey('f', number, seq))
				continue
			}
			ses.outbox.restore(f)
		}
		after = append(after, r.resumeLocked(ses)...)
		ses.mu.Unlock()
	}
	for number, list := range r.wills {
		if r.sessions[number] == nil {
			for _, w := range list {
				after = append(after, w.publish)
			}
		}
	}
	if s.count.damaged.Load() == 0 { // otherwise their session may only be unreadable
		for i := range r.orphans {
			s.journal.deleteEntry(r.orphans[i].number, &r.orphans[i].it, true)
		}
		for _, k := range r.strays {
			s.journal.delete(k)
		}
	}
	return after
}

// restore adds a flight of an earlier run.
func (o *outbox) restore(f *flight) {
	if o.flights == nil {
		o.flights = map[uint16]*flight{}
	}
	f.number = f.seq
	o.number = max(o.number, f.seq)
	o.flights[f.id] = f
}

// resumeLocked starts the timers of a session. Sessions.mu and the session's mu are held.
func (r *restoring) resumeLocked(ses *session) (after afterUnlock) {
	s := r.server
	left := r.left[ses.number]
	ses.accountLocked()
	lived := left.IsZero() // the gateway stopped while it was connected
	if lived {
		left = r.now
		ses.recordLocked(left)
	}
	ses.resumeReplaysLocked(r.now)
	list := r.wills[ses.number]
	slices.SortFunc(list, func(a, b *Will) int { return cmp.Compare(a.seq, b.seq) })
	for i, w := range list {
		switch {
		case i < len(list)-1: // a will of an earlier connection, which was on its way
			after = append(after, w.publish)
			continue
		case w.due.IsZero():
			w.due = r.now.Add(min(w.Delay, ses.expiry))
			if w.due.After(r.now) {
				w.store(ses)
			}
		}
		if delay := w.due.Sub(r.now); delay > 0 {
			ses.will = w
			ses.willTimer = time.AfterFunc(delay, func() { ses.sendWill(w) })
		} else {
			after = append(after, w.publish)
		}
	}
	switch over := ses.expiry - r.now.Sub(left); {
	case ses.expiry == Forever:
	case over > 0:
		ses.startExpiryLocked(over)
	default:
		after = append(after, s.endLocked(ses)...)
	}
	return after
}
