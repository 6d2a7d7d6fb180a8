package mqtt

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// subscribing is one SUBSCRIBE whose filters are being judged, some of them by
// plugins. The SUBACK leaves when the last one is.
type subscribing struct {
	conn    *conn
	packet  *packet.Subscribe
	ids     []uint32
	options logOptions
	codes   []byte // granted QoS or refusal, per filter
	allowed []bool // the client's own rights grant it
	plugin  []bool // a plugin granted it
	readers []*reader
	left    atomic.Int32
	number  uint64 // among the client's SUBSCRIBEs and UNSUBSCRIBEs
	awaited bool   // there are contests about its filters

	mu     sync.Mutex
	reason string // the first that was given
}

// refuse sets the code of one filter.
func (x *subscribing) refuse(i int, code stage.Code, reason string) {
	x.codes[i] = subackCode(code)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reason == "" {
		x.reason = reason
	}
}

// onSubscribe takes a SUBSCRIBE, section 3.8.
func (c *conn) onSubscribe(p *packet.Subscribe) error {
	if p.Props != nil && len(p.Props.User) > c.listener.Limits.MaxUserProperties {
		c.server.limited(limitUserProperties)
		return &packet.Error{Code: packet.CodeQuotaExceeded, Reason: "SUBSCRIBE: too many user properties"}
	}
	n := len(p.Filters)
	x := &subscribing{conn: c, packet: p, codes: make([]byte, n), allowed: make([]bool, n), plugin: make([]bool, n), readers: make([]*reader, n)}
	x.left.Store(1)
	c.orders++
	x.number = c.orders
	if p.Props != nil {
		x.ids = p.Props.SubscriptionIDs
	}
	if isConsumer(c.granted()) {
		var err error
		if x.options, err = readOptions(p.Props); err != nil { // it spoils the whole packet
			for i := range x.codes {
				x.refuse(i, stage.ImplementationError, err.Error())
			}
			x.done()
			return nil
		}
	}
	for i := range p.Filters {
		x.judge(i)
	}
	if x.left.Load() > 1 { // a plugin is asked; nothing is decided before this goroutine is done, too
		x.await()
	}
	x.done()
	return nil
}

// judge finds the code of one filter, or has a plugin find it.
func (x *subscribing) judge(i int) {
	c, f := x.conn, &x.packet.Filters[i]
	g := c.granted()
	if c.listener.Limits.refuses(f.Topic) {
		x.refuse(i, stage.UnspecifiedError, "")
		return
	}
	if i >= c.listener.Limits.MaxFilters {
		c.server.limited(limitFilters)
		x.refuse(i, stage.QuotaExceeded, "too many filters in one packet")
		return
	}
	if len(f.Topic) > c.listener.Limits.MaxTopicBytes || strings.Count(f.Topic, "/") >= c.listener.Limits.MaxTopicLevels {
		c.server.limited(limitTopic)
		x.refuse(i, stage.TopicFilterInvalid, "the filter is too long or has too many levels")
		return
	}
	if isConsumer(g) {
		if log, is := parseLogFilter(f.Topic); is {
			x.join(i, log)
			return
		}
	}
	if g.Device == "" {
		if code, reason := x.pure(f); code.Refused() {
			x.refuse(i, code, reason)
			return
		}
	}
	x.allowed[i] = c.maySubscribe(f.Topic) && c.authorized(g, stage.Subscribe, f.Topic, f.QoS, false)
	if g.Device == "" || !c.server.routes(g.Application) || ownReplies(g, c.clientID, f.Topic) {
		x.plain(i)
		return
	}
	in := c.inbound(event.TypeSubscribe, f.Topic, c.now)
	in.Transport.QoS = f.QoS
	x.left.Add(1)
	c.server.router.Submit(&in, nil, func(o stage.Outcome) {
		x.outcome(i, o)
		x.done()
	})
}

// refuses says whether the filter is among those that nobody may subscribe to.
func (l *Limits) refuses(filter string) bool {
	if len(l.RefuseFilters) == 0 {
		return false
	}
	_, filter, _ = packet.SplitShare(filter)
	return slices.Contains(l.RefuseFilters, filter)
}

// outcome takes a plugin's word on a filter. A plugin that says nothing leaves it
// to the rules of plain messaging: what nobody granted is refused.
func (x *subscribing) outcome(i int, o stage.Outcome) {
	switch {
	case o.Unavailable:
		x.refuse(i, stage.UnspecifiedError, "it could not be decided; try again")
	case o.Code.Refused():
		x.refuse(i, o.Code, reasonOf(&o))
	case o.Reply == nil || o.Code == stage.NoMatchingSubscribers:
		x.plain(i)
	case o.Reply.Code <= 2:
		x.codes[i] = min(byte(o.Reply.Code), x.packet.Filters[i].QoS)
		x.plugin[i] = true
	default:
		x.refuse(i, stage.Code(min(o.Reply.Code, 0xFF)), reasonOf(&o))
	}
}

func reasonOf(o *stage.Outcome) string {
	if o.Reason == "" && o.Reply != nil {
		return o.Reply.Reason
	}
	return o.Reason
}

// plain applies the rules of plain messaging to a filter.
func (x *subscribing) plain(i int) {
	if !x.allowed[i] {
		x.refuse(i, stage.NotAuthorized, "no right to subscribe to this filter")
		return
	}
	x.codes[i] = x.packet.Filters[i].QoS
}

// done counts a filter as judged, and after the last one puts the subscriptions
// into force and answers, once they are durable if the session is. It is called
// without locks, from any goroutine.
func (x *subscribing) done() {
	if x.left.Add(-1) > 0 {
		return
	}
	c := x.conn
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	defer x.finish()
	if s.link != c || s.ended {
		return // the client never saw a SUBACK; its readers left with the connection
	}
	replays := make([][]item, len(x.codes))
	for i := range x.codes {
		if x.codes[i] <= 2 && x.readers[i] == nil && c.decide(x.packet.Filters[i].Topic, x.number) {
			replays[i] = s.admit(s.subscribe(x, i), time.Now())
		}
	}
	granted := func(code byte) bool { return code <= 2 }
	if !s.keeps.Load() || !slices.ContainsFunc(x.codes, granted) {
		x.answer(replays)
		return
	}
	s.recordSubscriptions()
	s.server.journal.commit(func(err error) {
		if err != nil {
			c.shut(packet.CodeServerBusy, "the session cannot be stored")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		x.answer(replays)
	})
}

// answer sends the SUBACK, then retained messages and records. The caller holds
// the session's lock.
func (x *subscribing) answer(replays [][]item) {
	c := x.conn
	s := c.session
	if s.link == c {
		p := &packet.Suback{ID: x.packet.ID, Codes: x.codes}
		if x.reason != "" && !c.quiet {
			p.Props = &packet.Properties{ReasonString: &x.reason}
			if len(p.Append(nil, c.version)) > c.maxPacket {
				p.Props = nil
			}
		}
		c.mu.Lock()
		c.appendPacket(p)
		c.mu.Unlock()
		defer func() { // together with what follows at once
			c.mu.Lock()
			c.kick()
			c.mu.Unlock()
		}()
	}
	for i := range replays {
		s.replay(replays[i])
		if r := x.readers[i]; r != nil && !r.left {
			r.start()
		}
	}
}

// subscribe puts one granted filter into force, and returns the retained
// messages that it is to get. The caller holds the lock.
func (s *session) subscribe(x *subscribing, i int) (replay []item) {
	f := &x.packet.Filters[i]
	if !x.plugin[i] && !x.conn.maySubscribe(f.Topic) { // a right that went while a plugin was asked
		x.refuse(i, stage.NotAuthorized, "no right to subscribe to this filter")
		return nil
	}
	old := s.subs[f.Topic]
	switch {
	case old != nil:
	case len(s.subs)+len(s.readers) >= s.terms.Subscriptions:
		s.server.limited(limitSubscriptions)
		x.refuse(i, stage.QuotaExceeded, "the session has too many subscriptions")
		return nil
	case !s.space.takesSubscriptions():
		s.server.limited(limitSubscriptionsOfApplication)
		x.refuse(i, stage.QuotaExceeded, "the application has too many subscriptions")
		return nil
	}
	group, filter, _ := packet.SplitShare(f.Topic)
	sub := &subscription{session: s, filter: filter, group: group, qos: x.codes[i], noLocal: f.NoLocal,
		asIs: f.RetainAsPublished, byPlugin: x.plugin[i], ids: x.ids}
	if s.subs == nil {
		s.subs = make(map[string]*subscription)
	}
	s.subs[f.Topic] = sub
	for _, m := range s.space.subscribe(sub, f.RetainHandling, time.Now()) {
		replay = append(replay, item{m: m, qos: min(m.qos, sub.qos), retain: true, ids: sub.ids})
	}
	return replay
}

// admit takes places for retained messages, and notes their entries where the store
// has the session. They are the space's own, so a full queue takes those of one filter
// while it was not full before; those of the next filters have no room then, of this
// SUBSCRIBE or of others whose SUBACK is not yet durable. The caller holds the lock.
func (s *session) admit(items []item, now time.Time) []item {
	if len(items) == 0 {
		return nil
	}
	if s.full(now) {
		s.server.count.dropped[dropQueue].Add(uint64(len(items)))
		return nil
	}
	for i := range items {
		it := &items[i]
		if it.qos > 0 && s.keeps.Load() {
			s.keep(it)
		}
		s.outbox.reserved++
		s.outbox.reservedBytes += it.m.size()
	}
	return items
}

// replay delivers retained messages [MQTT-3.3.1-8]. The caller holds the lock.
func (s *session) replay(items []item) {
	for i := range items {
		it := items[i]
		s.outbox.unreserve(it.m.size())
		switch {
		case s.ended && it.seq == 0:
			s.gone()
		case s.ended:
			s.discard(&it)
		case it.qos > 0:
			s.enqueue(it)
		case s.link != nil:
			s.outbox.push(it)
		}
	}
	if len(items) > 0 && !s.ended {
		s.pump(time.Now())
	}
}

// onUnsubscribe takes an UNSUBSCRIBE, section 3.10.
func (c *conn) onUnsubscribe(p *packet.Unsubscribe) error {
	if p.Props != nil && len(p.Props.User) > c.listener.Limits.MaxUserProperties {
		c.server.limited(limitUserProperties)
		return &packet.Error{Code: packet.CodeQuotaExceeded, Reason: "UNSUBSCRIBE: too many user properties"}
	}
	s := c.session
	codes := make([]byte, len(p.Topics))
	var gone []*reader
	s.mu.Lock()
	if s.link != c {
		s.mu.Unlock()
		return errClosing
	}
	c.orders++
	for i, topic := range p.Topics {
		codes[i] = packet.CodeNoSubscriptionExisted
		if c.overtakes(topic, c.orders) {
			codes[i] = packet.CodeSuccess
		}
		if sub := s.subs[topic]; sub != nil {
			delete(s.subs, topic)
			s.space.unsubscribe(sub)
			codes[i] = packet.CodeSuccess
		}
		if r := s.readers[topic]; r != nil {
			gone = append(gone, s.remove(r))
			codes[i] = packet.CodeSuccess
		}
	}
	answer := &packet.Unsuback{ID: p.ID, Codes: codes}
	durable := s.keeps.Load() && slices.Contains(codes, packet.CodeSuccess)
	if durable {
		s.recordSubscriptions()
		s.server.journal.commit(func(err error) { c.answerLater(answer, err) })
	}
	s.mu.Unlock()
	leaveAll(gone)
	if !durable {
		c.send(answer)
	}
	return nil
}

// subackCode is the code as SUBACK may carry it, section 3.9.3.
func subackCode(code stage.Code) byte {
	switch code {
	case stage.UnspecifiedError, stage.ImplementationError, stage.NotAuthorized, stage.TopicFilterInvalid,
		stage.QuotaExceeded, stage.WildcardNotSupported:
		return byte(code)
	}
	switch byte(code) {
	case packet.CodePacketIDInUse, packet.CodeSharedSubNotSupported, packet.CodeSubIDsNotSupported:
		return byte(code)
	}
	return packet.CodeUnspecified
}
