package bench

import (
	"fmt"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// A subscriber takes messages and acknowledges them, a batch in each write.
type subscriber struct {
	*client
	run *run

	in            packet.Publish
	latency       histogram
	first, latest time.Time // when messages came

	consumed atomic.Int64
}

// loop consumes until the run is stopped.
func (s *subscriber) loop() error {
	now := time.Now()
	for {
		err := s.frames(func(first byte, body []byte) (bool, error) { return true, s.handle(first, body, now) })
		if err == nil {
			err = s.flush()
		}
		if err == nil {
			err = s.receive()
			now = time.Now()
		}
		if s.run.stopped.Load() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// handle acts on one packet of the server.
func (s *subscriber) handle(first byte, body []byte, now time.Time) error {
	switch t := packet.Type(first >> 4); t {
	case packet.PUBLISH:
		if err := packet.DecodePublish(s.version, first, body, &s.in); err != nil {
			return err
		}
		if s.first.IsZero() {
			s.first = now
		}
		s.latest = now
		s.consumed.Add(1)
		if at, ok := findStamp(s.in.Payload, s.run.id); ok {
			s.latency.add(now.Sub(s.run.start) - at)
		}
		switch s.in.QoS {
		case 1:
			s.out = (&packet.Ack{Type: packet.PUBACK, ID: s.in.ID}).Append(s.out, s.version)
		case 2:
			s.out = (&packet.Ack{Type: packet.PUBREC, ID: s.in.ID}).Append(s.out, s.version)
		}
		return nil
	case packet.PUBREL:
		var ack packet.Ack
		if err := packet.DecodeAck(s.version, first, body, &ack); err != nil {
			return err
		}
		s.out = (&packet.Ack{Type: packet.PUBCOMP, ID: ack.ID}).Append(s.out, s.version)
		return nil
	case packet.DISCONNECT:
		return s.refuse(first, body)
	default:
		return fmt.Errorf("unexpected %s", t)
	}
}
