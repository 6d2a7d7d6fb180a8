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

// errOther refuses a grant that belongs to another principal.
var errOther = &stage.Error{Code: event.NotAuthorized, Reason: "these are the credentials of somebody else"}

// alike says whether two grants belong to the same principal and device, so that one may replace the
// other on a live session. Their rights may differ.
func alike(a, b *access.Grant) bool {
	return a.Principal == b.Principal && a.Namespace == b.Namespace && a.Application == b.Application && a.Device == b.Device
}

// powerless returns a grant of the same principal without any rights.
func powerless(g *access.Grant) *access.Grant {
	return &access.Grant{Principal: g.Principal, Namespace: g.Namespace, Once: g.Once, Method: g.Method, Credential: g.Credential,
		Application: g.Application, Device: g.Device, Names: g.Names, Fixed: g.Fixed}
}

// Reconsider renews every grant that a change touches, also for clients that are away. A connection
// whose grant is gone ends (0x87), and so does the session if its principal is gone. Other sessions
// lose the subscriptions that the new grant does not allow, with the messages that wait because of
// them. Retained messages are deleted if their publisher may no longer publish them. When Reconsider
// returns, all of this is in force. It may block on the authenticator, which may have to ask another
// service about topics.
func (s *Sessions) Reconsider(change access.Change) {
	s.changed.Add(1) // a client that is being authenticated now is reconsidered when that is done
	for _, ses := range s.allSessions() {
		ses.Reconsider(&change, true)
	}
	s.reconsiderRetained(&change)
}

// reconsiderRetained deletes the retained messages whose publisher has lost the right to their
// topic, with whatever credential.
func (s *Sessions) reconsiderRetained(change *access.Change) {
	anyhow := *change
	anyhow.Credential = ""
	s.spacesMu.Lock()
	spaces := slices.Collect(maps.Values(s.spaces))
	s.spacesMu.Unlock()
	now := map[*access.Grant]*access.Grant{} // what each publisher's grant became
	for _, sp := range spaces {
		var touched []*Message
		sp.mu.RLock()
		sp.retained.tree.Each(func(m *Message) {
			if m.sender != nil && m.sender.entrance != nil && anyhow.Touches(m.sender.Granted()) {
				touched = append(touched, m)
			}
		})
		sp.mu.RUnlock()
		for _, m := range touched {
			old := m.sender.Granted()
			if now[old] == nil {
				now[old] = m.sender.entitled(old)
			}
			if !Permits(now[old], m.Topic) {
				sp.drop(m)
			}
		}
	}
}

// entitled returns what a client may do with any of its credentials, or the old grant if that cannot
// be decided.
func (c *Client) entitled(old *access.Grant) *access.Grant {
	g := *old
	g.Credential, g.Certificate, g.Expires = "", "", time.Time{}
	now, err := c.entrance.Renew(&g)
	if err == nil {
		return now
	}
	if _, _, known := Refusal(err); known {
		return powerless(old)
	}
	return old
}

// drop deletes a retained message, unless another message has replaced it.
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
		if newer != nil { // its record may have been committed before the deletion
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

// Reconsider does for one session what Sessions.Reconsider does for all. If ask is false, it does
// not block; filters that another service decides about are then checked when the client returns.
// The caller holds no lock.
func (s *session) Reconsider(change *access.Change, ask bool) {
	for done := false; !done; {
		s.mu.Lock()
		from, w := s.client, s.will
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

// renew renews the grant of a will's client.
func (c *Client) renew() {
	if c.entrance == nil {
		return
	}
	old := c.Granted()
	g, err := c.entrance.Renew(old)
	if err != nil {
		g = powerless(old)
	}
	c.current.CompareAndSwap(old, g)
}

// revoke takes all rights and the will from a client, and ends its connection. It returns false, and
// changes nothing, if the client has another grant than old by now.
func (s *session) revoke(from *Client, old *access.Grant, err error) bool {
	_, reason, known := Refusal(err)
	if !known {
		s.server.log.Warn("a grant could not be renewed and is revoked", "client", from.ClientID, "error", err)
	}
	s.mu.Lock()
	if s.client != from || !from.current.CompareAndSwap(old, powerless(old)) {
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

// regrant replaces the client's grant. It returns false, and changes nothing, if the client has
// another grant than old by now.
func (s *session) regrant(from *Client, old, g *access.Grant, ask bool) bool {
	var denied map[string]bool
	if ask {
		denied = s.denied(from, g)
	}
	s.mu.Lock()
	if s.client != from || !from.current.CompareAndSwap(old, g) {
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

// Reauthenticated takes the new grant of a client that has authenticated again.
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

// denied returns the filters of the session's subscriptions that the authenticator no longer
// authorizes. It may block; the caller holds no lock.
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

// pruneLocked ends the subscriptions that the client's present grant does not allow, and those that
// are denied, with the messages that wait only because of them.
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

// dropUnwantedLocked drops messages, waiting or in flight, that no subscription of the session
// matches, and that the client has no right to. The right matters, because messages that were on
// their way at an UNSUBSCRIBE are still delivered [MQTT-3.10.4-3]. Messages that only the store has
// are checked when the client returns. Messages of a shared subscription go to another member.
func (s *session) dropUnwantedLocked() (after func()) {
	topics := map[string]bool{} // whether a message on the topic is wanted
	wanted := func(it *Item) bool {
		if it.Message == nil {
			return true
		}
		yes, known := topics[it.Message.Topic]
		if !known {
			yes = s.client != nil && !s.client.Granted().Ask && s.client.MaySubscribe(it.Message.Topic)
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
		if f.state == flightSent { // its identifier stays in use until the client acknowledges it
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
