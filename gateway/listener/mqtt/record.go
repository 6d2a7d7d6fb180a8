package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	proto "tributary.io/sdk-plugin/event/wire"
)

// What the store holds for sessions. Numbers in keys are big-endian, so that keys
// sort by them; number is a session's, seq one of the journal's.
//
//	Sess  "s" number            the session
//	      "u" number            its subscriptions
//	      "i" number id         an inbound QoS 2 message that awaits PUBREL
//	      "w" number seq        a will
//	      "r" length space topic  a retained message
//	Queue "e" number seq        a message for a session
//	      "f" number seq        that it is in flight, and how far
//	      "b" seq               the body of a message that several sessions wait for
//
// A value is a version byte and protobuf fields; readers skip fields that they do
// not know, and refuse versions that they do not. Application messages are stored as
// MQTT 5 PUBLISH packets.
const recordVersion = 1

func sessKey(kind byte, number uint64, rest ...byte) store.Key {
	return store.Key{Kind: store.Sess, Name: keyName(kind, number, rest)}
}

func queueKey(kind byte, number, seq uint64) store.Key {
	var rest [8]byte
	binary.BigEndian.PutUint64(rest[:], seq)
	return store.Key{Kind: store.Queue, Name: keyName(kind, number, rest[:])}
}

func bodyKey(id uint64) store.Key { return store.Key{Kind: store.Queue, Name: keyName('b', id, nil)} }

func incomingKey(number uint64, id uint16) store.Key {
	return sessKey('i', number, byte(id>>8), byte(id))
}

func willKey(number, seq uint64) store.Key {
	return sessKey('w', number, binary.BigEndian.AppendUint64(nil, seq)...)
}

func retainedKey(space, topic string) store.Key {
	name := append(binary.AppendUvarint([]byte{'r'}, uint64(len(space))), space...)
	return store.Key{Kind: store.Sess, Name: string(append(name, topic...))}
}

func keyName(kind byte, number uint64, rest []byte) string {
	var b [17]byte
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:], number)
	return string(append(b[:9], rest...))
}

// keyNumbers takes a key name with one or two numbers apart.
func keyNumbers(name string) (number, second uint64, ok bool) {
	if len(name) != 9 && len(name) != 17 && len(name) != 11 {
		return 0, 0, false
	}
	number = binary.BigEndian.Uint64([]byte(name[1:9]))
	switch rest := []byte(name[9:]); len(rest) {
	case 2:
		second = uint64(binary.BigEndian.Uint16(rest))
	case 8:
		second = binary.BigEndian.Uint64(rest)
	}
	return number, second, true
}

var errRecord = errors.New("the record is malformed")

// fields begins to read a record.
func fields(b []byte) (proto.Reader, error) {
	if len(b) == 0 {
		return proto.Reader{}, errRecord
	}
	if b[0] != recordVersion {
		return proto.Reader{}, fmt.Errorf("the record has version %d; a newer gateway wrote it", b[0])
	}
	return proto.Read(b[1:], 0), nil
}

// since is a time in a record: Unix nanoseconds, 0 for none.
func since(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func at(nanos uint64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(nanos))
}

// sessionRecord is what is stored of a session itself.
type sessionRecord struct {
	namespace, clientID, principal, application, device string
	expiry                                              time.Duration
	left                                                time.Time     // when its connection ended; zero: it has one
	from                                                *sender       // to be written; nil: unknown
	last                                                *senderRecord // as it was read; nil: unknown
}

func (r *sessionRecord) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = proto.AppendString(dst, 1, r.namespace)
	dst = proto.AppendString(dst, 2, r.clientID)
	dst = proto.AppendString(dst, 3, r.principal)
	dst = proto.AppendString(dst, 4, r.application)
	dst = proto.AppendString(dst, 5, r.device)
	dst = proto.AppendUint(dst, 6, uint64(r.expiry))
	dst = proto.AppendUint(dst, 7, since(r.left))
	if r.from == nil {
		return dst
	}
	dst, mark := proto.Open(dst, 8, 256)
	return proto.Close(r.from.append(dst), mark)
}

func (r *sessionRecord) parse(b []byte) error {
	f, err := fields(b)
	if err != nil {
		return err
	}
	for f.Next() {
		switch f.Field() {
		case 1:
			r.namespace = f.Text()
		case 2:
			r.clientID = f.Text()
		case 3:
			r.principal = f.Text()
		case 4:
			r.application = f.Text()
		case 5:
			r.device = f.Text()
		case 6:
			r.expiry = time.Duration(min(f.Uint64(), math.MaxInt64))
		case 7:
			r.left = at(f.Uint64())
		case 8:
			r.last = new(senderRecord)
			if err := r.last.parse(f.Bytes()); err != nil {
				return err
			}
		}
	}
	return f.Err()
}

// appendSubscriptions writes what a session is subscribed to.
func appendSubscriptions(dst []byte, subs map[string]*subscription, readers map[string]*reader) []byte {
	dst = append(dst, recordVersion)
	var one []byte
	for topic, s := range subs {
		one = proto.AppendString(one[:0], 1, topic)
		one = proto.AppendUint(one, 2, uint64(s.qos))
		one = proto.AppendBool(one, 3, s.noLocal)
		one = proto.AppendBool(one, 4, s.asIs)
		one = proto.AppendBool(one, 5, s.byPlugin)
		dst = proto.AppendPresent(dst, 1, appendNumbers(one, 6, s.ids))
	}
	for topic, r := range readers {
		one = proto.AppendString(one[:0], 1, topic)
		one = proto.AppendString(one, 2, r.topic)
		one = proto.AppendString(one, 3, r.log.Application)
		one = proto.AppendBool(one, 4, r.log.Quarantine)
		one = proto.AppendString(one, 5, r.log.Group)
		one = proto.AppendBool(one, 7, r.binary)
		one = proto.AppendUint(one, 8, uint64(r.qos))
		dst = proto.AppendPresent(dst, 2, appendNumbers(one, 6, r.ids))
	}
	return dst
}

func appendNumbers(dst []byte, field int, numbers []uint32) []byte {
	for _, n := range numbers {
		dst = proto.AppendUint(dst, field, uint64(n))
	}
	return dst
}

// parseSubscriptions reads them; topic is the filter as the client gave it.
func parseSubscriptions(b []byte, sub func(topic string, s *subscription), log func(r *reader)) error {
	f, err := fields(b)
	if err != nil {
		return err
	}
	for f.Next() {
		switch f.Field() {
		case 1:
			s := new(subscription)
			topic, err := s.parse(f.Bytes())
			if err != nil {
				return err
			}
			sub(topic, s)
		case 2:
			r := new(reader)
			if err := r.parse(f.Bytes()); err != nil {
				return err
			}
			log(r)
		}
	}
	return f.Err()
}

func (s *subscription) parse(b []byte) (topic string, err error) {
	f := proto.Read(b, 0)
	for f.Next() {
		switch f.Field() {
		case 1:
			topic = f.Text()
		case 2:
			s.qos = byte(f.Uint(2))
		case 3:
			s.noLocal = f.Bool()
		case 4:
			s.asIs = f.Bool()
		case 5:
			s.byPlugin = f.Bool()
		case 6:
			s.ids = append(s.ids, f.Uint(math.MaxUint32))
		}
	}
	s.group, s.filter, _ = packet.SplitShare(topic)
	return topic, f.Err()
}

func (r *reader) parse(b []byte) error {
	f := proto.Read(b, 0)
	for f.Next() {
		switch f.Field() {
		case 1:
			r.filter = f.Text()
		case 2:
			r.topic = f.Text()
		case 3:
			r.log.Application = f.Text()
		case 4:
			r.log.Quarantine = f.Bool()
		case 5:
			r.log.Group = f.Text()
		case 6:
			r.ids = append(r.ids, f.Uint(math.MaxUint32))
		case 7:
			r.binary = f.Bool()
		case 8:
			r.qos = byte(f.Uint(1))
		}
	}
	return f.Err()
}

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
func (m *message) parse(b []byte, by *senderRecord) error {
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
func (w *will) parse(b []byte, from *senderRecord) error {
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

// senderRecord is what is stored of a sender.
type senderRecord struct {
	clientID, username, peer, listener string
	version                            byte
	grant                              stage.Grant
}

func (from *sender) append(dst []byte) []byte {
	dst = proto.AppendString(dst, 1, from.clientID)
	dst = proto.AppendString(dst, 2, from.username)
	dst = proto.AppendString(dst, 3, from.peer)
	dst = proto.AppendString(dst, 4, from.via.Name)
	dst = proto.AppendUint(dst, 5, uint64(from.version))
	dst, mark := proto.Open(dst, 6, 128)
	return proto.Close(appendGrant(dst, from.granted()), mark)
}

func (r *senderRecord) parse(b []byte) error {
	f := proto.Read(b, 0)
	for f.Next() {
		switch f.Field() {
		case 1:
			r.clientID = f.Text()
		case 2:
			r.username = f.Text()
		case 3:
			r.peer = f.Text()
		case 4:
			r.listener = f.Text()
		case 5:
			r.version = byte(f.Uint(5))
		case 6:
			if err := parseGrant(f.Bytes(), &r.grant); err != nil {
				return err
			}
		}
	}
	return f.Err()
}

// appendGrant writes what renews a grant.
func appendGrant(dst []byte, g *stage.Grant) []byte {
	for i, s := range []string{g.Principal, g.Namespace, g.Method, g.Credential, g.Application, g.Device} {
		dst = proto.AppendString(dst, 1+i, s)
	}
	for i, list := range [][]string{g.Publish, g.Subscribe, g.Read, g.Write} {
		for _, s := range list {
			dst = proto.AppendString(dst, 7+i, s)
		}
	}
	dst = proto.AppendBool(dst, 11, g.Messaging)
	dst = proto.AppendBool(dst, 12, g.PerMessage)
	dst = proto.AppendBool(dst, 13, g.Ask)
	dst = proto.AppendUint(dst, 14, since(g.Expires))
	dst = proto.AppendBool(dst, 15, g.Fixed)
	for i, s := range []string{g.Names.Application, g.Names.Device, g.Names.ClientID, g.Names.Username} {
		dst = proto.AppendString(dst, 16+i, s)
	}
	return dst
}

func parseGrant(b []byte, g *stage.Grant) error {
	f := proto.Read(b, 0)
	one := [...]*string{1: &g.Principal, 2: &g.Namespace, 3: &g.Method, 4: &g.Credential, 5: &g.Application, 6: &g.Device,
		16: &g.Names.Application, 17: &g.Names.Device, 18: &g.Names.ClientID, 19: &g.Names.Username}
	lists := [...]*[]string{7: &g.Publish, 8: &g.Subscribe, 9: &g.Read, 10: &g.Write}
	for f.Next() {
		switch n := f.Field(); n {
		case 1, 2, 3, 4, 5, 6, 16, 17, 18, 19:
			*one[n] = f.Text()
		case 7, 8, 9, 10:
			*lists[n] = append(*lists[n], f.Text())
		case 11:
			g.Messaging = f.Bool()
		case 12:
			g.PerMessage = f.Bool()
		case 13:
			g.Ask = f.Bool()
		case 14:
			g.Expires = at(f.Uint64())
		case 15:
			g.Fixed = f.Bool()
		}
	}
	return f.Err()
}

// retainedNames takes the key of a retained message apart.
func retainedNames(name string) (space, topic string, ok bool) {
	n, width := binary.Uvarint([]byte(name[1:]))
	if width <= 0 || n > uint64(len(name)-1-width) {
		return "", "", false
	}
	rest := name[1+width:]
	return rest[:n], rest[n:], true
}
