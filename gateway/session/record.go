package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/gateway/topic"
	proto "tributary.io/sdk-plugin/wire"
)

// Keys in the store. Numbers in keys are big-endian, so that keys sort by them: number is a
// session's, seq one of the journal's.
//
//	Sess  "s" number            the session
//	      "u" number            its subscriptions
//	      "i" number id         an inbound QoS 2 message that awaits PUBREL
//	      "w" number seq        a will
//	      "r" length space topic  a retained message
//	Queue "e" number seq        a message for a session
//	      "f" number seq        that it is in flight, and how far
//	      "b" seq               the body of a message that several sessions share
//
// A value is a version byte followed by protobuf fields. Readers skip fields that they do not
// know, and refuse versions that they do not know. Application messages are stored as MQTT 5
// PUBLISH packets.
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

// keyNumbers returns the one or two numbers in the name of a key.
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

// fields starts to read a record.
func fields(b []byte) (proto.Reader, error) {
	if len(b) == 0 {
		return proto.Reader{}, errRecord
	}
	if b[0] != recordVersion {
		return proto.Reader{}, fmt.Errorf("the record has version %d; a newer gateway wrote it", b[0])
	}
	return proto.Read(b[1:], 0), nil
}

// since returns a time as records have it: Unix nanoseconds, 0 for none.
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

// sessionRecord is the record of a session itself.
type sessionRecord struct {
	namespace, clientID, principal, application, device string
	expiry                                              time.Duration
	left                                                time.Time     // when its connection ended; zero: it has one
	client                                              *Client       // the client to write; nil: not known
	read                                                *clientRecord // the client that was read; nil: not known
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
	if r.client == nil {
		return dst
	}
	dst, mark := proto.Open(dst, 8, 256)
	return proto.Close(r.client.append(dst), mark)
}

// parse reads a record. The switches of all records look alike: a table of fields would hide their
// types and limits.
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
			r.read = new(clientRecord)
			if err := r.read.parse(f.Bytes()); err != nil {
				return err
			}
		}
	}
	return f.Err()
}

// appendSubscriptions writes the subscriptions of a session.
func appendSubscriptions(dst []byte, subs map[string]*subscription, readers map[string]*LogSubscription,
	replays map[string]*replay) []byte {
	dst = append(dst, recordVersion)
	var one []byte
	for topic, s := range subs {
		one = proto.AppendString(one[:0], 1, topic)
		one = proto.AppendUint(one, 2, uint64(s.qos))
		one = proto.AppendBool(one, 3, s.noLocal)
		one = proto.AppendBool(one, 4, s.asIs)
		one = proto.AppendBool(one, 5, s.byPlugin)
		one = proto.AppendBool(one, 7, replays[topic] != nil)
		dst = proto.AppendPresent(dst, 1, appendNumbers(one, 6, s.ids))
	}
	for topic, r := range readers {
		one = proto.AppendString(one[:0], 1, topic)
		one = proto.AppendString(one, 2, r.Topic)
		one = proto.AppendString(one, 3, r.Log.Application)
		one = proto.AppendBool(one, 4, r.Log.Quarantine)
		one = proto.AppendString(one, 5, r.Log.Group)
		one = proto.AppendBool(one, 7, r.Binary)
		one = proto.AppendUint(one, 8, uint64(r.QoS))
		one = proto.AppendString(one, 9, r.Where)
		dst = proto.AppendPresent(dst, 2, appendNumbers(one, 6, r.IDs))
	}
	return dst
}

func appendNumbers(dst []byte, field int, numbers []uint32) []byte {
	for _, n := range numbers {
		dst = proto.AppendUint(dst, field, uint64(n))
	}
	return dst
}

// parseSubscriptions reads the subscriptions of a session. topic is the filter as the client wrote
// it.
func parseSubscriptions(b []byte, sub func(topic string, s *subscription, replaying bool), log func(r *LogSubscription)) error {
	f, err := fields(b)
	if err != nil {
		return err
	}
	for f.Next() {
		switch f.Field() {
		case 1:
			s := new(subscription)
			topic, replaying, err := s.parse(f.Bytes())
			if err != nil {
				return err
			}
			sub(topic, s, replaying)
		case 2:
			r := new(LogSubscription)
			if err := r.parse(f.Bytes()); err != nil {
				return err
			}
			log(r)
		}
	}
	return f.Err()
}

func (s *subscription) parse(b []byte) (filter string, replaying bool, err error) {
	f := proto.Read(b, 0)
	for f.Next() {
		switch f.Field() {
		case 1:
			filter = f.Text()
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
		case 7:
			replaying = f.Bool()
		}
	}
	s.group, s.filter, _ = topic.SplitShare(filter)
	return filter, replaying, f.Err()
}

func (r *LogSubscription) parse(b []byte) error {
	f := proto.Read(b, 0)
	for f.Next() {
		switch f.Field() {
		case 1:
			r.Filter = f.Text()
		case 2:
			r.Topic = f.Text()
		case 3:
			r.Log.Application = f.Text()
		case 4:
			r.Log.Quarantine = f.Bool()
		case 5:
			r.Log.Group = f.Text()
		case 6:
			r.IDs = append(r.IDs, f.Uint(math.MaxUint32))
		case 7:
			r.Binary = f.Bool()
		case 8:
			r.QoS = byte(f.Uint(1))
		case 9:
			r.Where = f.Text()
		}
	}
	return f.Err()
}

// retainedNames returns the space and the topic in the key of a retained message.
func retainedNames(name string) (space, topic string, ok bool) {
	n, width := binary.Uvarint([]byte(name[1:]))
	if width <= 0 || n > uint64(len(name)-1-width) {
		return "", "", false
	}
	rest := name[1+width:]
	return rest[:n], rest[n:], true
}
