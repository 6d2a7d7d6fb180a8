package mqtt

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// subscribing is one SUBSCRIBE while its filters are judged, some of them by plugins. The SUBACK is
// sent after the last one.
type subscribing struct {
	conn    *conn
	packet  *packet.Subscribe
	ids     []uint32
	options logOptions
	codes   []byte // for each filter, the granted QoS or the refusal
	allowed []bool // the client's own rights allow the filter
	plugin  []bool // a plugin granted it
	idle    []bool // granted, but no message ever matches: see isServerFilter
	readers []*session.LogSubscription
	left    atomic.Int32
	number  uint64 // number of this packet among the client's SUBSCRIBEs and UNSUBSCRIBEs
	awaited bool   // contests about its filters have begun

	mu     sync.Mutex
	reason string // the first reason for a refusal
}

// refuse sets the code of one filter that is refused.
func (x *subscribing) refuse(i int, code event.Code, reason string) {
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
	x := &subscribing{conn: c, packet: p, codes: make([]byte, n), allowed: make([]bool, n), plugin: make([]bool, n), idle: make([]bool, n),
		readers: make([]*session.LogSubscription, n)}
	x.left.Store(1)
	c.orders++
	x.number = c.orders
	if p.Props != nil {
		x.ids = p.Props.SubscriptionIDs
	}
	if isConsumer(c.Granted()) {
		var err error
		if x.options, err = readOptions(p.Props); err != nil { // a wrong property refuses all filters
			for i := range x.codes {
				x.refuse(i, event.ImplementationSpecificError, err.Error())
			}
			x.done()
			return nil
		}
	}
	for i := range p.Filters {
		x.checkFilter(i)
	}
	if x.left.Load() > 1 { // plugins were asked; the SUBACK waits for this goroutine, too
		x.beginContests()
	}
	x.done()
	return nil
}

// checkFilter decides about one filter, or asks a plugin to.
func (x *subscribing) checkFilter(i int) {
	c, f := x.conn, &x.packet.Filters[i]
	g := c.Granted()
	if c.listener.Limits.refuses(f.Topic) {
		x.refuse(i, event.UnspecifiedError, "")
		return
	}
	if i >= c.listener.Limits.MaxFilters {
		c.server.limited(limitFilters)
		x.refuse(i, event.QuotaExceeded, "too many filters in one packet")
		return
	}
	if len(f.Topic) > c.listener.Limits.MaxTopicBytes || strings.Count(f.Topic, "/") >= c.listener.Limits.MaxTopicLevels {
		c.server.limited(limitTopic)
		x.refuse(i, event.TopicFilterInvalid, "the filter is too long or has too many levels")
		return
	}
	if isServerFilter(f.Topic) && !c.MaySubscribe(f.Topic) {
		x.codes[i], x.idle[i] = f.QoS, true
		return
	}
	if isConsumer(g) {
		if log, is := parseLogFilter(f.Topic); is {
			x.join(i, log)
			return
		}
	}
	if g.Device == "" {
		if code, reason := x.checkUserFilter(f); code.Refused() {
			x.refuse(i, code, reason)
			return
		}
	}
	x.allowed[i] = c.MaySubscribe(f.Topic) && c.Authorized(g, access.Subscribe, f.Topic, f.QoS, false)
	if g.Device == "" || !c.server.routes(g.Application) || session.OwnReplies(g, c.ClientID, f.Topic) {
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

// isServerFilter says whether a filter matches only topics below $SYS/, where other brokers publish
// their own state. This gateway publishes nothing there. Many clients subscribe to it by habit,
// together with filters that they need, and some treat one refusal as a refusal of all. So the
// filter is granted to everybody, and makes no subscription.
func isServerFilter(filter string) bool { return strings.HasPrefix(filter, "$SYS/") }

// refuses says whether nobody may subscribe to the filter.
func (l *Limits) refuses(filter string) bool {
	if len(l.RefuseFilters) == 0 {
		return false
	}
	_, filter, _ = topic.SplitShare(filter)
	return slices.Contains(l.RefuseFilters, filter)
}

// outcome takes a plugin's decision about a filter. If the plugin decides nothing, the rules of
// plain messaging apply.
func (x *subscribing) outcome(i int, o stage.Outcome) {
	switch {
	case o.Unavailable:
		x.refuse(i, event.UnspecifiedError, "it could not be decided; try again")
	case o.Code.Refused():
		x.refuse(i, o.Code, reasonOf(&o))
	case o.Reply == nil || o.Code == event.NoMatchingSubscribers:
		x.plain(i)
	case o.Reply.Code <= 2:
		x.codes[i] = min(byte(o.Reply.Code), x.packet.Filters[i].QoS)
		x.plugin[i] = true
	default:
		x.refuse(i, event.Code(min(o.Reply.Code, 0xFF)), reasonOf(&o))
	}
}

func reasonOf(o *stage.Outcome) string {
	if o.Reason == "" && o.Reply != nil {
		return o.Reply.Reason
	}
	return o.Reason
}

// plain decides about a filter by the rules of plain messaging.
func (x *subscribing) plain(i int) {
	if !x.allowed[i] {
		x.refuse(i, event.NotAuthorized, "no right to subscribe to this filter")
		return
	}
	x.codes[i] = x.packet.Filters[i].QoS
}

// done counts a filter as decided. After the last one, the session gets the subscriptions, and sends
// the SUBACK when they are durable. The caller holds no lock; any goroutine may call done.
func (x *subscribing) done() {
	if x.left.Add(-1) > 0 {
		return
	}
	c := x.conn
	list := make([]session.Wanted, 0, len(x.codes))
	for i, code := range x.codes {
		if code > 2 || x.idle[i] {
			continue
		}
		f := &x.packet.Filters[i]
		list = append(list, session.Wanted{Index: i, Filter: f.Topic, QoS: code, NoLocal: f.NoLocal, AsIs: f.RetainAsPublished,
			Handling: f.RetainHandling, ByPlugin: x.plugin[i], IDs: x.ids, Log: x.readers[i]})
	}
	c.Session.Subscribe(c, list, x)
}

// Decide implements subscriber.
func (x *subscribing) Decide(filter string) bool { return x.conn.contests.decide(filter, x.number) }

// Refuse implements subscriber.
func (x *subscribing) Refuse(i int, code event.Code, reason string) { x.refuse(i, code, reason) }

// Over implements subscriber.
func (x *subscribing) Over() { x.endContests() }

// Answer implements subscriber: it sends the SUBACK.
func (x *subscribing) Answer() {
	c := x.conn
	p := &packet.Suback{ID: x.packet.ID, Codes: x.codes}
	if x.reason != "" && !c.quiet {
		p.Props = &packet.Properties{ReasonString: reasonString(x.reason)}
		if len(p.Append(nil, c.version)) > c.maxPacket {
			p.Props = nil
		}
	}
	c.send(p)
}

// onUnsubscribe takes an UNSUBSCRIBE, section 3.10.
func (c *conn) onUnsubscribe(p *packet.Unsubscribe) error {
	if p.Props != nil && len(p.Props.User) > c.listener.Limits.MaxUserProperties {
		c.server.limited(limitUserProperties)
		return &packet.Error{Code: packet.CodeQuotaExceeded, Reason: "UNSUBSCRIBE: too many user properties"}
	}
	c.orders++
	answer := &packet.Unsuback{ID: p.ID, Codes: make([]byte, len(p.Topics))}
	existed := func(i int, filter string, did bool) {
		answer.Codes[i] = packet.CodeNoSubscriptionExisted
		if c.contests.overtakes(filter, c.orders) || did {
			answer.Codes[i] = packet.CodeSuccess
		}
	}
	current, now := c.Session.Unsubscribe(c, p.Topics, existed, func(err error) { c.sendStored(answer, err) })
	if !current {
		return errClosing
	}
	if now {
		c.send(answer)
	}
	return nil
}

// subackCode returns the code that a SUBACK may carry, section 3.9.3.
func subackCode(code event.Code) byte {
	switch code {
	case event.UnspecifiedError, event.ImplementationSpecificError, event.NotAuthorized, event.TopicFilterInvalid,
		event.QuotaExceeded, event.WildcardSubscriptionsNotSupported:
		return byte(code)
	}
	switch byte(code) {
	case packet.CodePacketIDInUse, packet.CodeSharedSubNotSupported, packet.CodeSubIDsNotSupported:
		return byte(code)
	}
	return packet.CodeUnspecified
}
