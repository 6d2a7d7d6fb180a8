package mqtt

import (
	"strings"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// onPublish takes a PUBLISH, section 3.3.4.
func (c *conn) onPublish(first byte, body []byte) error {
	p := &c.in
	if err := packet.DecodePublish(c.version, first, body, p); err != nil {
		return err
	}
	if p.Props != nil {
		if p.Props.SubscriptionIDs != nil { // [MQTT-3.3.4-6]
			return &packet.Error{Code: packet.CodeProtocolError, Reason: "PUBLISH: subscription identifier sent by a client"}
		}
		if err := c.resolveAlias(p); err != nil {
			return err
		}
	}
	c.server.count.receivedMessages[p.QoS].Add(1)
	if p.QoS < 2 {
		return c.dispatch(p, nil)
	}
	a, err := c.takeQoS2ID(p.ID)
	if a == nil {
		return err
	}
	if err = c.dispatch(p, a); err != nil {
		c.Session.FinishQoS2(a, session.Verdict{Undecided: true})
	}
	return err
}

// dispatch has a message checked, and then acknowledges it or passes it to the router. a is nil
// unless the message is of QoS 2.
func (c *conn) dispatch(p *packet.Publish, a *session.Arrival) error {
	x, v, route, err := c.admit(p)
	if err != nil {
		return err
	}
	if v.Code == event.RetainNotSupported && c.version == packet.V5 {
		// PUBACK has no such code; section 3.2.2.3.5 prescribes DISCONNECT.
		return &packet.Error{Code: packet.CodeRetainNotSupported, Reason: v.Reason}
	}
	if v.Code.Refused() {
		c.server.refused(c.ClientID, p.Topic, &v)
	}
	if x == nil {
		if a != nil {
			c.Session.FinishQoS2(a, v)
		}
		return c.acknowledgeNow(p.QoS, p.ID, v)
	}
	x.conn, x.Arrival = c, a
	if err := c.enqueueAck(x); err != nil {
		return err
	}
	if route {
		c.server.router.Submit(&x.in, x.companion(), x.outcome)
	} else {
		x.decideUnrouted(v)
	}
	return nil
}

// admit holds a message to the rates of its sender, then decides what becomes of it.
func (c *conn) admit(p *packet.Publish) (x *pending, v session.Verdict, route bool, err error) {
	who, g := c.sender, c.Granted()
	if g.PerMessage {
		if v = c.server.improper(&c.listener.Limits, p); !v.Code.Refused() {
			who, v = c.speaker(g, p)
		}
		if v.Code.Refused() {
			return nil, v, false, nil
		}
		g = who.Granted()
	}
	if v, err = c.withinRate(g, p); v.Code.Refused() || err != nil {
		return nil, v, false, err
	}
	who.AwaitRoom(p.Topic, p.QoS, c.kick) // acknowledgements leave before the wait
	x, v, route = who.decidePublish(p, c.now)
	return x, v, route, nil
}

// resolveAlias replaces a topic alias with its topic, section 3.3.2.3.4.
func (c *conn) resolveAlias(p *packet.Publish) error {
	if p.Props.TopicAlias == nil {
		return nil
	}
	n := int(*p.Props.TopicAlias)
	if n == 0 || n > c.listener.Limits.TopicAliasMax { // [MQTT-3.3.2-9]
		return &packet.Error{Code: packet.CodeTopicAliasInvalid, Reason: "PUBLISH: topic alias above the Topic Alias Maximum of CONNACK"}
	}
	for len(c.aliases) <= n {
		c.aliases = append(c.aliases, "")
	}
	switch {
	case p.Topic != "":
		c.aliases[n] = p.Topic
	case c.aliases[n] == "":
		return &packet.Error{Code: packet.CodeProtocolError, Reason: "PUBLISH: topic alias that was never set"}
	default:
		p.Topic = c.aliases[n]
	}
	return nil
}

// takeQoS2ID takes a packet identifier for a message of QoS 2. It returns nil for a repeated
// message, which is answered again but has no other effect [MQTT-4.3.3-10]. If the first one awaits
// its verdict, maybe since an earlier connection, the repeated one is answered together with it.
func (c *conn) takeQoS2ID(id uint16) (*session.Arrival, error) {
	a, state := c.Session.TakeQoS2ID(c, id, c.listener.Limits.MaxUnreleased)
	switch state {
	case session.ArrivalNew:
		return a, nil
	case session.ArrivalStale:
		return nil, errClosing
	case session.ArrivalAccepted:
		return nil, c.acknowledgeNow(2, id, session.Verdict{})
	case session.ArrivalFull:
		c.server.limited(limitUnreleased)
		v := session.Verdict{Code: event.QuotaExceeded, Reason: "too many messages of QoS 2 without PUBREL"}
		if c.version != packet.V5 { // its PUBREC has no reason code
			return nil, &packet.Error{Code: byte(v.Code), Reason: v.Reason}
		}
		return nil, c.acknowledgeNow(2, id, v)
	}
	twin := &pending{Publication: session.Publication{Client: c.Client}, conn: c, id: id, qos: 2}
	if err := c.enqueueAck(twin); err != nil {
		return nil, err
	}
	switch kept, accepted := c.Session.AnswerRepeated(id, twin.decide); {
	case kept:
	case accepted:
		twin.decide(session.Verdict{})
	default:
		twin.decide(session.Verdict{Code: event.UnspecifiedError, Reason: "the message was refused"})
	}
	return nil, nil
}

// decidePublish decides what becomes of a message. x is nil if the verdict is final. If route is
// true, x goes to the router; otherwise the verdict decides x. PUBLISH and wills share this
// function. Topic aliases are resolved already.
func (s *sender) decidePublish(p *packet.Publish, now time.Time) (x *pending, v session.Verdict, route bool) {
	if v := s.server.improper(&s.via.Limits, p); v.Code.Refused() {
		return nil, v, false
	}
	g := s.Granted()
	if g.PerMessage && !s.perMessage {
		speaker, v := s.speaker(g, p)
		if v.Code.Refused() {
			return nil, v, false
		}
		return speaker.decidePublish(p, now)
	}
	to, isCommand := parseCommand(g, p.Topic)
	v = s.mayPublish(g, p, to)
	if isCommand {
		x, v, route = s.command(p, to, v, now)
		return x, v, route
	}
	if v.Code.Refused() {
		return nil, v, false
	}
	if g.Messaging && !s.server.routes(g.Application) && checkCloudEvent(p) == nil {
		alone, v := s.Unrouted(p, now)
		if alone == nil {
			return nil, v, false
		}
		return &pending{Publication: *alone, id: p.ID, qos: p.QoS}, v, false
	}
	x = s.newPending(p, now)
	readCloudEvent(&x.in)
	if g.Messaging {
		x.Message = session.NewMessage(p, now, s.Client)
	}
	return x, v, true
}

// outcome takes the outcome from the router.
func (x *pending) outcome(o stage.Outcome) {
	v := session.Verdict{Code: o.Code, Reason: o.Reason, Undecided: o.Unavailable}
	if r := o.Reply; r != nil {
		if v.Reason == "" {
			v.Reason = r.Reason
		}
		if r.Code.Refused() && !v.Code.Refused() && r.Code <= 0xFF {
			v.Code = r.Code
		}
	}
	if x.reply != nil {
		x.reply.report(&v, o.Delivery)
	}
	if v.Code.Refused() {
		x.server.refused(x.Client.ClientID, x.in.Transport.Topic, &v)
	}
	x.decide(v)
}

// refused counts and logs a refused message. An MQTT 3.1.1 client cannot be told, so this is the
// only trace.
func (s *Server) refused(clientID, topic string, v *session.Verdict) {
	s.count.refusedPublishes.Add(1)
	s.log.Debug("message refused", "client", clientID, "topic", topic, "code", byte(v.Code), "reason", v.Reason)
}

// improper checks the limits on a message that the decoder does not know.
func (s *Server) improper(l *Limits, p *packet.Publish) (v session.Verdict) {
	switch {
	case len(p.Topic) > l.MaxTopicBytes:
		s.limited(limitTopic)
		return session.Verdict{Code: event.TopicNameInvalid, Reason: "the topic is too long"}
	case strings.Count(p.Topic, "/") >= l.MaxTopicLevels:
		s.limited(limitTopic)
		return session.Verdict{Code: event.TopicNameInvalid, Reason: "the topic has too many levels"}
	case p.Props != nil && len(p.Props.User) > l.MaxUserProperties:
		s.limited(limitUserProperties)
		return session.Verdict{Code: event.QuotaExceeded, Reason: "too many user properties"}
	}
	return v
}
