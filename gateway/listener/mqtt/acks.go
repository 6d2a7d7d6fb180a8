package mqtt

import (
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// acks is the ack queue of a connection: its inbound messages in order of
// arrival, from the first that has no outcome yet. The connection's lock guards it.
type acks struct {
	first, last *pending
	waiting     int
	owed        int  // messages of QoS 1 and 2 whose last acknowledgement is due
	draining    bool // a goroutine emits the settled ones
}

// pendingState is how far a message in the ack queue is.
type pendingState uint8

const (
	pendingRouted  pendingState = iota // the router, or the message's own commit, has not answered
	pendingDecided                     // the verdict is known
	pendingStored                      // the verdict is known, and waits for the journal to store what it promises
)

// pending is one PUBLISH, or a will, whose outcome is awaited.
type pending struct {
	session.Publication
	server *Server       // that made an event of it
	in     event.Inbound // what the router got
	conn   *conn         // nil for a will: nobody is told
	next   *pending      // in the ack queue
	id     uint16
	qos    byte
	ask    *request // of a command; nil otherwise

	state   pendingState
	verdict session.Verdict // once decided
}

// enqueueAck gives p a place in the ack queue. MQTT 5 clients that exceed the Receive
// Maximum are cut off; for others, and for QoS 0, the reader waits. It is called
// by the reader.
func (c *conn) enqueueAck(p *pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.listener.Limits.ReceiveMaximum
	if p.qos > 0 && c.version == packet.V5 {
		if c.owed >= limit { // [MQTT-3.3.4-7]
			return &packet.Error{Code: packet.CodeReceiveMaximumExceeded, Reason: "more unacknowledged messages than the Receive Maximum of CONNACK"}
		}
	} else {
		for c.waiting >= limit && c.phase != connClosing {
			c.kickLocked()
			c.change.Wait()
		}
	}
	if c.last == nil {
		c.first = p
	} else {
		c.last.next = p
	}
	c.last = p
	c.waiting++
	if p.qos > 0 {
		c.owed++
	}
	return nil
}

// acknowledgeNow acknowledges a PUBLISH whose verdict is known at once.
func (c *conn) acknowledgeNow(qos byte, id uint16, v session.Verdict) error {
	if qos == 0 {
		return nil
	}
	c.mu.Lock()
	if c.first == nil && c.owed < c.listener.Limits.ReceiveMaximum {
		c.owed++
		c.acknowledgeLocked(qos, id, &v)
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	p := &pending{Publication: session.Publication{Client: c.Client}, conn: c, qos: qos, id: id}
	if err := c.enqueueAck(p); err != nil {
		return err
	}
	p.decide(v)
	return nil
}

// decide fills in the verdict, and emits what is due in the ack queue. It is
// called without locks, from any goroutine.
func (p *pending) decide(v session.Verdict) {
	c := p.conn
	if v.Undecided {
		v.Code = event.UnspecifiedError
	}
	if c == nil {
		p.verdict = v
		p.deliver()
		return
	}
	if v.Undecided {
		c.shut(packet.CodeServerBusy, "the message could not be stored; send it again")
	}
	c.mu.Lock()
	p.verdict, p.state = v, pendingDecided
	if c.draining {
		c.mu.Unlock()
		return
	}
	c.draining = true
	for c.first != nil && c.first.state == pendingDecided {
		p := c.first
		if p.Open() {
			c.mu.Unlock()
			over := p.deliver()
			c.mu.Lock()
			if !over {
				continue // it may be settled again by now
			}
		}
		if c.first = p.next; c.first == nil {
			c.last = nil
		}
		c.waiting--
		c.acknowledgeLocked(p.qos, p.id, &p.verdict)
		if p.ask != nil {
			c.mu.Unlock()
			p.respond()
			c.mu.Lock()
		}
	}
	c.draining = false
	c.kickLocked()
	c.change.Broadcast()
	c.mu.Unlock()
}

// deliver does what comes of a verdict before the acknowledgement: subscribers
// get the message, and a QoS 2 identifier waits for its PUBREL or is free again. It
// is not over where one of them has it in the store only since: the message stays
// the first of the queue and is settled once more when that is durable.
func (p *pending) deliver() (over bool) {
	v := &p.verdict
	p.Finish(v)
	if p.conn == nil {
		return true
	}
	if p.Late() && p.qos > 0 {
		p.awaitJournal()
		return false
	}
	if p.Arrival != nil {
		p.Client.Session.FinishQoS2(p.Arrival, p.verdict)
	}
	return true
}

// awaitJournal settles a message once more when all that was noted is durable.
func (p *pending) awaitJournal() {
	v := p.verdict
	p.conn.mu.Lock()
	p.state = pendingStored
	p.conn.mu.Unlock()
	p.WhenStored(func(err error) {
		v.Undecided = v.Undecided || err != nil
		p.decide(v)
	})
}

// companion is what is to be committed with the message: itself, or nothing where
// there cannot be anything.
func (p *pending) companion() stage.Companion {
	if !p.Durable() {
		return nil
	}
	return p
}

// decideUnrouted settles a message that no route takes, after a commit of its own if
// it needs one.
func (p *pending) decideUnrouted(v session.Verdict) {
	if !p.Durable() || v.Code.Refused() {
		p.decide(v)
		return
	}
	p.CommitAlone(func(err error) {
		v.Undecided = v.Undecided || err != nil
		p.decide(v)
	})
}

// acknowledgeLocked appends the PUBACK or PUBREC of a message. The caller holds mu.
func (c *conn) acknowledgeLocked(qos byte, id uint16, v *session.Verdict) {
	if qos == 0 {
		return
	}
	a := packet.Ack{Type: packet.PUBACK, ID: id, Code: ackCode(v.Code)}
	if qos == 2 {
		a.Type = packet.PUBREC
	}
	if qos == 1 || v.Code.Refused() {
		c.owed = max(0, c.owed-1)
	}
	if c.version == packet.V5 && !c.quiet && (v.Reason != "" || v.Status != "") { // [MQTT-3.1.2-29]
		a.Props = ackProperties(v)
		if len(a.Append(nil, c.version)) > c.maxPacket { // [MQTT-3.4.2-2], [MQTT-3.4.2-3]
			a.Props = nil
		}
	}
	if c.phase == connClosing {
		return
	}
	out := c.outputLocked()
	out.b = a.Append(out.b, c.version)
}

// ackProperties are the reason string and the status of an acknowledgement.
func ackProperties(v *session.Verdict) *packet.Properties {
	x := new(packet.Properties)
	if v.Reason != "" {
		x.ReasonString = reasonString(v.Reason)
	}
	if v.Status != "" {
		x.User = []packet.UserProperty{{Name: "status", Value: v.Status}}
	}
	return x
}

// reasonString is a reason as a packet tells it. Whoever made it, and of what, it breaks
// no client: see stage.Plain.
func reasonString(reason string) *string {
	reason = stage.Plain(reason, maxReason)
	return &reason
}

// maxReason bounds reasons, in bytes. They are for people.
const maxReason = 4096

// sendPubcomp answers a PUBREL, which ends an exchange of QoS 2: one that the server
// knows of, or else a client could go beyond the Receive Maximum by PUBRELs of nothing.
func (c *conn) sendPubcomp(answer *packet.Ack) {
	c.mu.Lock()
	if answer.Code == packet.CodeSuccess {
		c.owed = max(0, c.owed-1)
	}
	c.appendPacketLocked(answer)
	c.mu.Unlock()
}

// sendStored sends an answer whose cause has become durable. It is called
// without locks.
func (c *conn) sendStored(p packet.Packet, err error) {
	if err != nil {
		c.shut(packet.CodeServerBusy, "the session cannot be stored")
		return
	}
	if a, ok := p.(*packet.Ack); ok && a.Type == packet.PUBCOMP {
		c.sendPubcomp(a)
	} else {
		c.send(p)
	}
	c.mu.Lock()
	c.kickLocked()
	c.mu.Unlock()
}

// ackCode is the code as PUBACK and PUBREC may carry it, sections 3.4.2.1 and
// 3.5.2.1.
func ackCode(code event.Code) byte {
	switch code {
	case event.Success, event.NoMatchingSubscribers, event.UnspecifiedError, event.ImplementationSpecificError,
		event.NotAuthorized, event.TopicNameInvalid, event.QuotaExceeded, event.PayloadFormatInvalid:
		return byte(code)
	}
	if code.Refused() {
		return packet.CodeUnspecified
	}
	return packet.CodeSuccess
}
