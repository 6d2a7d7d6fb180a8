package bench

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// A publisher keeps its window full until its messages are sent or time is up, then
// waits for the acknowledgements that are missing.
type publisher struct {
	*client
	run     *run
	topic   string
	payload *payload
	qos     byte
	left    int           // messages to send; negative: no limit
	every   time.Duration // between two messages; 0: no limit
	due     time.Time     // of the next message, if every is set

	seq   int
	free  []uint16    // a ring; the packet identifiers not in use begin behind the inUse places from first on
	first int         // place in the ring
	inUse int         // identifiers in use
	sent  []time.Time // by packet identifier; zero: not in use

	scratch []byte
	in      packet.Publish
	latency histogram
	refused map[byte]int
	ended   time.Time // when the last message was sent
	lastAck time.Time

	published, acked atomic.Int64
}

func newPublisher(r *run, cl *client, n int) *publisher {
	c := &r.config
	p := &publisher{client: cl, run: r, qos: c.QoS, topic: expand(c.Topic, cl.id, n), left: -1, refused: map[byte]int{},
		payload: newPayload(c, cl.id, n, r.id, r.start)}
	if c.Messages > 0 {
		p.left = share(c.Messages, c.Publishers, n)
	}
	if c.Rate > 0 {
		p.every = time.Duration(float64(time.Second) * float64(c.Publishers) / float64(c.Rate))
		p.due = r.start.Add(p.every * time.Duration(n) / time.Duration(c.Publishers)) // not all at once
	}
	window := min(c.Window, cl.receiveMaximum)
	p.sent = make([]time.Time, window+1)
	for id := range window {
		p.free = append(p.free, uint16(id+1))
	}
	return p
}

// share is the part of total that falls to number n of count.
func share(total, count, n int) int {
	part := total / count
	if n < total%count {
		part++
	}
	return part
}

// loop publishes. Deadlines move only forward to known points in time, and stop sets
// one in the past after it has raised run.stopped, so no wake-up is lost.
func (p *publisher) loop() error {
	if p.qos == 0 {
		return p.loopQoS0()
	}
	p.nc.SetWriteDeadline(p.run.end.Add(p.run.config.Drain))
	var deadline time.Time
	for {
		now := time.Now()
		sending := p.fill(now)
		if !sending && p.ended.IsZero() {
			p.ended = now
		}
		if err := p.flush(); err != nil {
			return err
		}
		if !sending && p.inUse == 0 {
			return nil
		}
		if wake := p.wakeAt(sending); wake != deadline {
			deadline = wake
			p.nc.SetReadDeadline(wake)
		}
		if p.run.stopped.Load() {
			return nil
		}
		err := p.receive()
		switch {
		case err == nil:
			now = time.Now()
			if err := p.frames(func(first byte, body []byte) (bool, error) { return true, p.handle(first, body, now) }); err != nil {
				return err
			}
		case !isTimeout(err):
			return err
		case !sending && !time.Now().Before(p.wakeAt(false)):
			return fmt.Errorf("%d messages were not acknowledged within %v", p.inUse, p.run.config.Drain)
		}
	}
}

// loopQoS0 publishes without acknowledgements, a window in each write. A PINGRESP at
// the end shows that the server has read it all.
func (p *publisher) loopQoS0() error {
	p.nc.SetDeadline(p.run.end.Add(p.run.config.Drain))
	for !p.run.stopped.Load() {
		now := time.Now()
		sending := p.fill(now)
		if err := p.flush(); err != nil {
			return err
		}
		if !sending {
			break
		}
		if p.every > 0 {
			select {
			case <-time.After(min(time.Until(p.due), time.Until(p.run.end))):
			case <-p.run.halt:
			}
		}
	}
	if p.run.stopped.Load() {
		return nil
	}
	p.out = (&packet.Pingreq{}).Append(p.out, p.version)
	_, err := p.request()
	p.lastAck = time.Now()
	return err
}

// fill appends messages until the window is full or none is due, and says whether
// there will be more.
func (p *publisher) fill(now time.Time) (sending bool) {
	if p.left == 0 || p.run.stopped.Load() || !now.Before(p.run.end) {
		return false
	}
	sent := 0
	for p.left != 0 && p.inUse < len(p.free) && (p.qos > 0 || sent < len(p.free)) {
		at := now
		if p.every > 0 {
			if p.due.After(now) {
				break
			}
			// Latency counts from when the message was due, so that a server that falls
			// behind cannot hide it by slowing the generator down.
			at = p.due
			p.due = p.due.Add(p.every)
		}
		p.publish(at)
		sent++
	}
	p.published.Add(int64(sent))
	return p.left != 0
}

// publish appends one message.
func (p *publisher) publish(at time.Time) {
	p.scratch = p.payload.appendTo(p.scratch[:0], p.seq, at)
	m := packet.Publish{QoS: p.qos, Topic: p.topic, Payload: p.scratch}
	if p.qos > 0 {
		m.ID = p.free[(p.first+p.inUse)%len(p.free)]
		p.inUse++
		p.sent[m.ID] = at
	}
	p.out = m.Append(p.out, p.version)
	p.seq++
	if p.left > 0 {
		p.left--
	}
}

// wakeAt is when to stop waiting for acknowledgements.
func (p *publisher) wakeAt(sending bool) time.Time {
	switch {
	case !sending:
		return p.ended.Add(p.run.config.Drain)
	case p.every > 0 && p.inUse < len(p.free) && p.due.Before(p.run.end):
		return p.due
	}
	return p.run.end
}

// handle acts on one packet of the server.
func (p *publisher) handle(first byte, body []byte, now time.Time) error {
	switch t := packet.Type(first >> 4); t {
	case packet.PUBACK, packet.PUBREC, packet.PUBCOMP:
		var ack packet.Ack
		if err := packet.DecodeAck(p.version, first, body, &ack); err != nil {
			return err
		}
		if int(ack.ID) >= len(p.sent) || p.sent[ack.ID].IsZero() {
			return fmt.Errorf("%s for packet identifier %d, which is not in use", t, ack.ID)
		}
		if t == packet.PUBREC && ack.Code < packet.CodeUnspecified {
			p.count(&ack, now)
			p.out = (&packet.Ack{Type: packet.PUBREL, ID: ack.ID}).Append(p.out, p.version)
			return nil
		}
		if t != packet.PUBCOMP {
			p.count(&ack, now)
		}
		p.release(ack.ID)
		return nil
	case packet.PUBLISH: // what it published is answered
		if err := packet.DecodePublish(p.version, first, body, &p.in); err != nil {
			return err
		}
		switch p.in.QoS {
		case 1:
			p.out = (&packet.Ack{Type: packet.PUBACK, ID: p.in.ID}).Append(p.out, p.version)
		case 2:
			p.out = (&packet.Ack{Type: packet.PUBREC, ID: p.in.ID}).Append(p.out, p.version)
		}
		return nil
	case packet.PUBREL:
		var ack packet.Ack
		if err := packet.DecodeAck(p.version, first, body, &ack); err != nil {
			return err
		}
		p.out = (&packet.Ack{Type: packet.PUBCOMP, ID: ack.ID}).Append(p.out, p.version)
		return nil
	case packet.DISCONNECT:
		return p.refuse(first, body)
	case packet.PINGRESP:
		return nil
	default:
		return fmt.Errorf("unexpected %s", t)
	}
}

// count records the acknowledgement of a message.
func (p *publisher) count(ack *packet.Ack, now time.Time) {
	p.lastAck = now
	if ack.Code >= packet.CodeUnspecified {
		p.refused[ack.Code]++
		return
	}
	p.acked.Add(1)
	p.latency.add(now.Sub(p.sent[ack.ID]))
}

// release makes a packet identifier free again. Identifiers are used in turn.
func (p *publisher) release(id uint16) {
	p.sent[id] = time.Time{}
	p.free[p.first] = id
	p.first = (p.first + 1) % len(p.free)
	p.inUse--
}

// refuse is the error of a DISCONNECT.
func (cl *client) refuse(first byte, body []byte) error {
	d, err := packet.Decode(cl.version, first, body)
	if err != nil {
		return err
	}
	if d, ok := d.(*packet.Disconnect); ok {
		return disconnected(d)
	}
	return errors.New("the server disconnected")
}
