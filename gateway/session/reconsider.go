package session

import (
	"errors"
	"maps"
	"slices"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// errOther is why a grant cannot take the place of another.
var errOther = &stage.Error{Code: event.NotAuthorized, Reason: "these are the credentials of somebody else"}

// alike says whether one grant may take the place of another on a live session:
// rights may differ, but not whose they are.
func alike(a, b *access.Grant) bool {
	return a.Principal == b.Principal && a.Namespace == b.Namespace && a.Application == b.Application && a.Device == b.Device
}

// powerless is who holds a grant without what it grants.
func powerless(g *access.Grant) *access.Grant {
	return &access.Grant{Principal: g.Principal, Namespace: g.Namespace, Once: g.Once, Method: g.Method, Credential: g.Credential,
		Application: g.Application, Device: g.Device, Names: g.Names, Fixed: g.Fixed}
}

// Reconsider has every grant renewed that a change touches. Connections whose
// grant is no more end (0x87), and with them the sessions of principals that are
// gone; others lose the subscriptions, and what waits for them because of these,
// that the new grant does not allow. Sessions whose client is away too; and messages
// that somebody retained who may not publish them any more. It returns
// when all of this is in force. It may block on the authenticator, where that has
// to ask about topics.
func (s *Sessions) Reconsider(change access.Change) {
	s.changed.Add(1) // a client that is just being authenticated is reconsidered after
	for _, ses := range s.allSessions() {
		ses.Reconsider(&change, true)
	}
	s.reconsiderRetained(&change)
}

// reconsiderRetained deletes the retained messages whose publisher has no right to
// their topic any more, whatever it authenticates with.
func (s *Sessions) reconsiderRetained(change *access.Change) {
	anyhow := *change
	anyhow.Credential = ""
	s.spacesMu.Lock()
	spaces := slices.Collect(maps.Values(s.spaces))
	s.spacesMu.Unlock()
	now := map[*access.Grant]*access.Grant{} // what became of the publishers' grants
	for _, sp := range spaces {
		var touched []*Message
		sp.mu.RLock()
		sp.retained.tree.Each(func(m *Message) {
			if m.from != nil && m.from.entrance != nil && anyhow.Touches(m.from.Granted()) {
				touched = append(touched, m)
			}
		})
		sp.mu.RUnlock()
		for _, m := range touched {
			old := m.from.Granted()
			if now[old] == nil {
				now[old] = m.from.entitled(old)
			}
			if !Permits(now[old], m.Topic) {
				sp.drop(m)
			}
		}
	}
}

// entitled is what a sender may do by whatever it authenticates with. Where that
// cannot be decided it is what it was.
func (from *Client) entitled(old *access.Grant) *access.Grant {
	g := *old
	g.Credential, g.Certificate, g.Expires = "", "", time.Time{}
	now, err := from.entrance.Renew(&g)
	if err == nil {
		return now
	}
	if _, _, known := Refusal(err); known {
		return powerless(old)
	}
	return old
}

// drop deletes a retained message, unless another one has taken its place.
func (sp *space) drop(m *Message) {
	sp.mu.Lock()
	current := sp.retained.get(m.Topic) == m
	if current {
		sp.retained.delete(m)
	}
	sp.mu.Unlock()
	j := sp.server.journal
	if !current || j == nil {
		return
	}
	key := retainedKey(sp.name, m.Topic)
	j.delete(key)
	j.commit(func(error) {
		sp.mu.RLock()
		newer := sp.retained.get(m.Topic)
		sp.mu.RUnlock()
		if newer != nil { // it may have been committed before the deletion
			j.note(key, change{value: newer.appendRetained(nil), expires: newer.Expires})
			j.commit(nil)
		}
	})
}

func (s *Sessions) allSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for _, ses := range s.sessions {
		list = append(list, ses)
	}
	return list
}

// Reconsider does for one session what Reconsider does for all. Without ask it
// does not block, and leaves filters that another service decides about until the
// client returns. It is called without locks.
func (s *session) Reconsider(change *access.Change, ask bool) {
	for done := false; !done; {
		s.mu.Lock()
		from, w := s.from, s.will
		s.mu.Unlock()
		if w != nil && w.Client != from && change.Touches(w.Client.Granted()) {
			w.Client.renew()
		}
		if from == nil || from.entrance == nil || !change.Touches(from.Granted()) {
			return
		}
		old := from.Granted()
		g, err := from.entrance.Renew(old)
		if err == nil && !alike(g, old) {
			err = errOther
		}
		if err != nil {
			done = s.revoke(from, old, err)
			continue
		}
		done = g == old && !g.Ask || s.regrant(from, old, g, ask)
	}
}

// renew renews the grant of the sender of a will.
func (from *Client) renew() {
	if from.entrance == nil {
		return
	}
	old := from.Granted()
	g, err := from.entrance.Renew(old)
	if err != nil {
		g = powerless(old)
	}
	from.current.CompareAndSwap(old, g)
}

// revoke takes all rights from the sender, its will with them, and ends its
// connection. It is false, and nothing happened, where the sender's grant is not
// old any more.
func (s *session) revoke(from *Client, old *access.Grant, err error) bool {
	_, reason, known := Refusal(err)
	if !known {
		s.server.log.Warn("a grant could not be renewed and is revoked", "client", from.ClientID, "error", err)
	}
	s.mu.Lock()
	if s.from != from || !from.current.CompareAndSwap(old, powerless(old)) {
		s.mu.Unlock()
		return false
	}
	s.will.Drop()
	s.will = nil
	if s.willTimer != nil {
		s.willTimer.Stop()
		s.willTimer = nil
	}
	c := s.link
	s.mu.Unlock()
	s.server.count.revoked.Add(1)
	if e := (*stage.Error)(nil); errors.As(err, &e) && e.Gone {
		s.server.endSession(s)
	}
	if c != nil {
		c.Close(packet.CodeNotAuthorized, reason)
	}
	return true
}

// regrant puts a new grant in the place of the old one. It is false, and nothing
// happened, where the sender's grant is not old any more.
func (s *session) regrant(from *Client, old, g *access.Grant, ask bool) bool {
	var denied map[string]bool
	if ask {
		denied = s.denied(from, g)
	}
	s.mu.Lock()
	if s.from != from || !from.current.CompareAndSwap(old, g) {
		s.mu.Unlock()
		return false
	}
	after := s.pruneLocked(from, denied)
	if c := s.link; c != nil {
		c.Expire(g.Expires)
	}
	s.mu.Unlock()
	after.run()
	return true
}

// Reauthenticated takes the grant of a client that authenticated once more.
func (s *session) Reauthenticated(c Link, who *Client, g *access.Grant) error {
	for {
		old := who.Granted()
		if !alike(old, g) {
			return errOther
		}
		s.mu.Lock()
		current := s.link == c
		s.mu.Unlock()
		if !current || s.regrant(who, old, g, true) {
			return nil
		}
	}
}

// denied are the filters of the session's subscriptions that the authenticator,
// asked anew, does not authorize. It may block, and is called without locks.
func (s *session) denied(from *Client, g *access.Grant) map[string]bool {
	if s == nil || !g.Ask {
		return nil
	}
	s.mu.Lock()
	subs := make([]*subscription, 0, len(s.subs))
	filters := make([]string, 0, len(s.subs))
	for filter, sub := range s.subs {
		if !sub.byPlugin {
			subs, filters = append(subs, sub), append(filters, filter)
		}
	}
	s.mu.Unlock()
	denied := make(map[string]bool)
	deadline := time.Now().Add(from.entrance.Patience())
	for i, filter := range filters {
		if time.Now().After(deadline) || !from.Authorized(g, access.Subscribe, filter, subs[i].qos, false) {
			denied[filter] = true
		}
	}
	return denied
}

// pruneLocked drops the subscriptions that the sender's present grant does not allow, or
// that are denied, and with them what waits only because of them. The caller
// holds the lock, and calls what is returned after unlocking.
func (s *session) pruneLocked(from *Client, denied map[string]bool) (after afterUnlock) {
	g := from.Granted()
	var left []*LogSubscription
	before, subscribed := len(s.subs), len(s.subs)+len(s.logSubs)
	for filter, sub := range s.subs {
		if !sub.byPlugin && (denied[filter] || !from.MaySubscribe(filter)) {
			delete(s.subs, filter)
			s.space.unsubscribe(sub)
		}
	}
	for _, r := range s.logSubs {
		if !g.MayRead(r.Log.Application) {
			left = append(left, s.removeLogLocked(r))
		}
	}
	if len(left) > 0 {
		after = append(after, func() { leaveAll(left) })
	}
	if len(s.subs) < before {
		after = append(after, s.dropUnwantedLocked())
	}
	if s.stored.Load() && len(s.subs)+len(s.logSubs) < subscribed {
		s.recordSubscriptionsLocked()
		s.server.journal.commit(nil)
	}
	return after
}

// dropUnwantedLocked drops the messages, waiting or in flight, that no subscription of the
// session wants any more and that it has no right to either: what was on its way
// when the client unsubscribed is still delivered [MQTT-3.10.4-3]. Those that only the store has are looked at when the
// client returns. What had come by a shared one goes to another member. The caller
// holds the lock, and calls what is returned after unlocking.
func (s *session) dropUnwantedLocked() (after func()) {
	topics := map[string]bool{} // wanted or not
	wanted := func(it *Item) bool {
		if it.Message == nil {
			return true
		}
		yes, known := topics[it.Message.Topic]
		if !known {
			yes = s.from != nil && !s.from.Granted().Ask && s.from.MaySubscribe(it.Message.Topic)
			for _, sub := range s.subs {
				yes = yes || topic.Match(sub.filter, it.Message.Topic)
			}
			topics[it.Message.Topic] = yes
		}
		return yes
	}
	dropped := s.outbox.filter(wanted)
	orphans := slices.DeleteFunc(slices.Clone(dropped), func(it Item) bool { return it.shared == nil || it.QoS == 0 })
	for i := range dropped {
		s.discardLocked(&dropped[i])
	}
	for _, f := range s.outbox.flights {
		if wanted(&f.Item) {
			continue
		}
		dropped = append(dropped, f.Item)
		if f.orphan() {
			orphans = append(orphans, f.Item)
		}
		if f.state == flightSent { // its identifier stays taken until the client acknowledges it
			if f.seq != 0 {
				s.server.journal.deleteEntry(s.number, &f.Item, true)
			}
			f.Item, f.void = Item{QoS: f.QoS}, true
			continue
		}
		s.landLocked(f)
	}
	s.server.count.dropped[dropRevoked].Add(uint64(len(dropped)))
	for i := range orphans {
		orphans[i].seq, orphans[i].body = 0, 0
	}
	return func() { s.space.adopt(orphans) }
}
