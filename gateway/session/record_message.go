package session

import (
	"math"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	proto "tributary.io/sdk-plugin/wire"
)

// entry is the record of a message for a session. If the body has a record of its own, Message is
// nil, and size and expires say what is known without the body.
type entry struct {
	Item
	size    int
	expires time.Time
}

// appendEntry writes the entry of an item.
func appendEntry(dst []byte, it *Item) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendUint(dst, 1, uint64(it.QoS))
	dst = proto.AppendBool(dst, 2, it.Retain)
	dst = proto.AppendUint(dst, 3, since(it.Message.Expires))
	dst = appendNumbers(dst, 4, it.IDs)
	if it.shared != nil {
		dst = proto.AppendString(dst, 5, it.shared.group)
		dst = proto.AppendString(dst, 6, it.shared.filter)
	}
	dst = proto.AppendUint(dst, 7, uint64(it.Message.size()))
	if it.body != 0 {
		return proto.AppendUint(dst, 8, it.body)
	}
	var mark proto.Mark
	dst, mark = proto.Open(dst, 9, it.Message.size()+64)
	dst = it.Message.appendPacket(dst)
	return proto.Close(dst, mark)
}

// parseEntry reads an entry. If whole is false, it does not read the message.
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
			e.QoS = byte(f.Uint(2))
		case 2:
			e.Retain = f.Bool()
		case 3:
			e.expires = at(f.Uint64())
		case 4:
			e.IDs = append(e.IDs, f.Uint(math.MaxUint32))
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
		e.shared = &subscription{group: group, filter: filter, qos: e.QoS}
	}
	if err = f.Err(); err == nil && e.body == 0 && whole {
		if e.Message, err = parseMessage(body, e.expires); err == nil {
			e.Message.QoS = e.QoS
		}
	}
	return e, err
}

// appendPacket writes the message as an MQTT 5 PUBLISH packet of QoS 0.
func (m *Message) appendPacket(dst []byte) []byte {
	p := packet.Publish{Topic: m.Topic, Payload: m.Payload, Retain: m.retain, Props: m.Props}
	return p.Append(dst, packet.V5)
}

func parseMessage(b []byte, expires time.Time) (*Message, error) {
	p, err := parsePublish(b)
	if err != nil {
		return nil, err
	}
	return &Message{Topic: p.Topic, Payload: p.Payload, retain: p.Retain, Expires: expires, Props: p.Props}, nil
}

// parsePublish reads a PUBLISH packet. The result shares memory with b.
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

// append writes the body of a message that several sessions share, or a retained message.
func (m *Message) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendUint(dst, 1, uint64(m.QoS))
	dst = proto.AppendUint(dst, 2, since(m.Expires))
	dst, mark := proto.Open(dst, 3, m.size()+64)
	return proto.Close(m.appendPacket(dst), mark)
}

// appendRetained also writes the publisher, whose right to the topic counts.
func (m *Message) appendRetained(dst []byte) []byte {
	dst = m.append(dst)
	if m.sender == nil {
		return dst
	}
	dst, mark := proto.Open(dst, 4, 256)
	return proto.Close(m.sender.append(dst), mark)
}

// parse reads a message, and its publisher into by unless by is nil.
func (m *Message) parse(b []byte, by *clientRecord) error {
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
	m.QoS = qos
	return nil
}

// appendFlight writes the progress of a flight.
func appendFlight(dst []byte, f *flight) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendUint(dst, 1, uint64(f.id))
	dst = proto.AppendUint(dst, 2, uint64(f.QoS))
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
			fl.QoS = byte(f.Uint(2))
		case 3:
			fl.released = f.Bool()
		}
	}
	if f.Err() == nil && (fl.id == 0 || fl.QoS == 0) {
		return errRecord
	}
	return f.Err()
}

// append writes a will with its client. due is zero while its connection lives.
func (w *Will) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	p := packet.Publish{Topic: w.Publish.Topic, Payload: w.Publish.Payload, Retain: w.Publish.Retain, Props: w.Publish.Props}
	dst, mark := proto.Open(dst, 1, len(p.Payload)+len(p.Topic)+64)
	dst = proto.Close(p.Append(dst, packet.V5), mark)
	dst = proto.AppendUint(dst, 2, uint64(w.Publish.QoS))
	dst = proto.AppendUint(dst, 3, uint64(w.Delay))
	dst = proto.AppendUint(dst, 4, since(w.due))
	dst, mark = proto.Open(dst, 5, 256)
	return proto.Close(w.Client.append(dst), mark)
}

// parse reads a will, and its client into from.
func (w *Will) parse(b []byte, from *clientRecord) error {
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
			p.QoS, w.Publish = w.Publish.QoS, *p
		case 2:
			w.Publish.QoS = byte(f.Uint(2))
		case 3:
			w.Delay = time.Duration(min(f.Uint64(), math.MaxInt64))
		case 4:
			w.due = at(f.Uint64())
		case 5:
			if err := from.parse(f.Bytes()); err != nil {
				return err
			}
		}
	}
	if f.Err() == nil && w.Publish.Topic == "" {
		return errRecord
	}
	return f.Err()
}
