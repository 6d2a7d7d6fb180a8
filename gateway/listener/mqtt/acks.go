package mqtt

import (
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// acks is the ack queue of a connection: its inbound messages in the order of their arrival, from
// the first one without a verdict on. The connection's mu guards it.
type acks struct {
	first, last *pending
	waiting     int
	owed        int  // messages of QoS 1 and 2 that count against the Receive Maximum
	draining    bool // a goroutine is sending the decided ones
}

// pendingState is how far a message in the ack queue is.
type pendingState uint8

const (
	pendingRouted  pendingState = iota // the router, or the message's own commit, has not answered yet
	pendingDecided                     // the verdict is known
	pendingStored                      // the verdict is known, but has to wait for the journal
)

// pending is a PUBLISH or a will that awaits its verdict.
type pending struct {
	session.Publication
	server *Server       // the server that made the event
	in     event.Inbound // what the router gets
	conn   *conn         // nil for a will: nobody is told the verdict
	next   *pending      // in the ack queue
	id     uint16
	qos    byte
	reply  *commandReply // of a command; nil otherwise

	state   pendingState
	verdict session.Verdict // once decided
}

// enqueueAck gives p a place in the ack queue. An MQTT 5 client that exceeds the Receive Maximum is
// disconnected; for MQTT 3.1.1 clients, and for QoS 0, the reader waits until there is room. Only
// the reader calls it.
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

// acknowledgeNow acknowledges a PUBLISH that already has its verdict.
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

// decide sets the verdict, and sends all acknowledgements at the head of the ack queue that have
// one. The caller holds no lock; any goroutine may call decide.
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
				continue // awaitJournal may have decided it again by now
			}
		}
		if c.first = p.next; c.first == nil {
			c.last = nil
		}
		c.waiting--
		c.acknowledgeLocked(p.qos, p.id, &p.verdict)
		if p.reply != nil {
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

// deliver does what has to happen before the acknowledgement: it sends an accepted message to the
// subscribers, and finishes the QoS 2 identifier, which then waits for its PUBREL or is free again.
// It returns false if a receiver's entry is not durable yet. The message then stays at the head of
// the queue until the journal has stored the entry, and is decided once more.
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

// awaitJournal decides the message once more when everything that was noted in the journal is
// durable.
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

// companion returns what has to be committed together with the event: the message itself, or nil if
// it changes nothing in the store.
func (p *pending) companion() stage.Companion {
	if !p.Durable() {
		return nil
	}
	return p
}

// decideUnrouted decides a message that no route takes. If the message changes the store, its own
// commit comes first.
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

// acknowledgeLocked appends the PUBACK or PUBREC of a message.
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

// ackProperties returns the properties of an acknowledgement: its reason string, and the status of a
// command.
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

// reasonString returns a reason that any client can read, whatever text it was made from: see
// stage.Plain.
func reasonString(reason string) *string {
	reason = stage.Plain(reason, maxReason)
	return &reason
}

// maxReason is how long a reason may be, in bytes. Reasons are for people.
const maxReason = 4096

// sendPubcomp answers a PUBREL. Only a known identifier makes room in the Receive Maximum, otherwise
// a client could exceed it with PUBRELs of unknown ones.
func (c *conn) sendPubcomp(answer *packet.Ack) {
	c.mu.Lock()
	if answer.Code == packet.CodeSuccess {
		c.owed = max(0, c.owed-1)
	}
	c.appendPacketLocked(answer)
	c.mu.Unlock()
}

// sendStored sends an answer that had to wait for the store. If err says that storing failed, the
// connection ends. The caller holds no lock.
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

// ackCode returns the code that a PUBACK or PUBREC may carry, sections 3.4.2.1 and 3.5.2.1.
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
