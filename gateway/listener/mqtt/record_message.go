package mqtt

import (
	"math"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	proto "tributary.io/sdk-plugin/event/wire"
)

// entry is a message for a session as it is stored: the item, or, where its body is
// stored apart, what is known without reading that.
type entry struct {
	item
	size    int
	expires time.Time
}

// appendEntry writes an item's entry.
func appendEntry(dst []byte, it *item) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendUint(dst, 1, uint64(it.qos))
	dst = proto.AppendBool(dst, 2, it.retain)
	dst = proto.AppendUint(dst, 3, since(it.m.expires))
	dst = appendNumbers(dst, 4, it.ids)
	if it.shared != nil {
		dst = proto.AppendString(dst, 5, it.shared.group)
		dst = proto.AppendString(dst, 6, it.shared.filter)
	}
	dst = proto.AppendUint(dst, 7, uint64(it.m.size()))
	if it.body != 0 {
		return proto.AppendUint(dst, 8, it.body)
	}
	var mark proto.Mark
	dst, mark = proto.Open(dst, 9, it.m.size()+64)
	dst = it.m.packet(dst)
	return proto.Close(dst, mark)
}

// parseEntry reads an entry. With whole false the message itself is left out.
func parseEntry(b []byte, whole bool) (e entry, err error) {
	f, err := fields(b)
	if err != nil {
		return e, err
	}
	var group, filter string
	var body []byte
	for f.Next() {
		switch f.Field() {
		case 1:
			e.qos = byte(f.Uint(2))
		case 2:
			e.retain = f.Bool()
		case 3:
			e.expires = at(f.Uint64())
		case 4:
			e.ids = append(e.ids, f.Uint(math.MaxUint32))
		case 5:
			group = f.Text()
		case 6:
			filter = f.Text()
		case 7:
			e.size = int(f.Uint(math.MaxInt32))
		case 8:
			e.body = f.Uint64()
		case 9:
			body = f.Bytes()
		}
	}
	if group != "" {
		e.shared = &subscription{group: group, filter: filter, qos: e.qos}
	}
	if err = f.Err(); err == nil && e.body == 0 && whole {
		if e.m, err = parseMessage(body, e.expires); err == nil {
			e.m.qos = e.qos
		}
	}
	return e, err
}

// packet writes the message as an MQTT 5 PUBLISH packet of QoS 0.
func (m *message) packet(dst []byte) []byte {
	p := packet.Publish{Topic: m.topic, Payload: m.payload, Retain: m.retain, Props: m.props}
	return p.Append(dst, packet.V5)
}

func parseMessage(b []byte, expires time.Time) (*message, error) {
	p, err := parsePublish(b)
	if err != nil {
		return nil, err
	}
	return &message{topic: p.Topic, payload: p.Payload, retain: p.Retain, expires: expires, props: p.Props}, nil
}

// parsePublish reads a PUBLISH packet; the result shares memory with b.
func parsePublish(b []byte) (*packet.Publish, error) {
	first, size, header, err := packet.Header(b, packet.MaxSize)
	switch {
	case err != nil:
		return nil, err
	case header == 0 || len(b) != header+size || packet.Type(first>>4) != packet.PUBLISH:
		return nil, errRecord
	}
	p := new(packet.Publish)
	if err := packet.DecodePublish(packet.V5, first, b[header:], p); err != nil {
		return nil, err
	}
	return p, nil
}

// The body of a message that several sessions wait for, and a retained message.
func (m *message) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendUint(dst, 1, uint64(m.qos))
	dst = proto.AppendUint(dst, 2, since(m.expires))
	dst, mark := proto.Open(dst, 3, m.size()+64)
	return proto.Close(m.packet(dst), mark)
}

// appendRetained adds who published the message, whose right to it counts.
func (m *message) appendRetained(dst []byte) []byte {
	dst = m.append(dst)
	if m.from == nil {
		return dst
	}
	dst, mark := proto.Open(dst, 4, 256)
	return proto.Close(m.from.append(dst), mark)
}

// parse reads a message, and who published it where by is not nil and that is
// known.
func (m *message) parse(b []byte, by *clientRecord) error {
	f, err := fields(b)
	if err != nil {
		return err
	}
	var body []byte
	var qos byte
	var expires time.Time
	for f.Next() {
		switch f.Field() {
		case 1:
			qos = byte(f.Uint(2))
		case 2:
			expires = at(f.Uint64())
		case 3:
			body = f.Bytes()
		case 4:
			if by == nil {
				continue
			}
			if err := by.parse(f.Bytes()); err != nil {
				return err
			}
		}
	}
	if f.Err() != nil {
		return f.Err()
	}
	read, err := parseMessage(body, expires)
	if err != nil {
		return err
	}
	*m = *read
	m.qos = qos
	return nil
}

// appendFlight writes how far a flight is.
func appendFlight(dst []byte, f *flight) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendUint(dst, 1, uint64(f.id))
	dst = proto.AppendUint(dst, 2, uint64(f.qos))
	return proto.AppendBool(dst, 3, f.released)
}

func (fl *flight) parse(b []byte) error {
	f, err := fields(b)
	if err != nil {
		return err
	}
	for f.Next() {
		switch f.Field() {
		case 1:
			fl.id = uint16(f.Uint(math.MaxUint16))
		case 2:
			fl.qos = byte(f.Uint(2))
		case 3:
			fl.released = f.Bool()
		}
	}
	if f.Err() == nil && (fl.id == 0 || fl.qos == 0) {
		return errRecord
	}
	return f.Err()
}

// append writes a will with its sender; due is zero while its connection lives.
func (w *will) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	p := packet.Publish{Topic: w.publish.Topic, Payload: w.publish.Payload, Retain: w.publish.Retain, Props: w.publish.Props}
	dst, mark := proto.Open(dst, 1, len(p.Payload)+len(p.Topic)+64)
	dst = proto.Close(p.Append(dst, packet.V5), mark)
	dst = proto.AppendUint(dst, 2, uint64(w.publish.QoS))
	dst = proto.AppendUint(dst, 3, uint64(w.delay))
	dst = proto.AppendUint(dst, 4, since(w.due))
	dst, mark = proto.Open(dst, 5, 256)
	return proto.Close(w.from.append(dst), mark)
}

// parse reads a will, and who it is of.
func (w *will) parse(b []byte, from *clientRecord) error {
	f, err := fields(b)
	if err != nil {
		return err
	}
	for f.Next() {
		switch f.Field() {
		case 1:
			p, err := parsePublish(f.Bytes())
			if err != nil {
				return err
			}
			p.QoS, w.publish = w.publish.QoS, *p
		case 2:
			w.publish.QoS = byte(f.Uint(2))
		case 3:
			w.delay = time.Duration(min(f.Uint64(), math.MaxInt64))
		case 4:
			w.due = at(f.Uint64())
		case 5:
			if err := from.parse(f.Bytes()); err != nil {
				return err
			}
		}
	}
	if f.Err() == nil && w.publish.Topic == "" {
		return errRecord
	}
	return f.Err()
}
