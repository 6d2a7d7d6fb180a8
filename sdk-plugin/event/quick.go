package event

import (
	"time"

	"tributary.io/sdk-plugin/event/wire"
)

// ReadRequest is ParseRequest for a plugin, which has its requests from the
// gateway and cannot be protected from it: it does not look whether strings are
// UTF-8. What is laid out as AppendRequest does it, with the usual fields, is
// read in one pass with few calls and loops, which are dear in WebAssembly; that
// costs a plugin a fifth of the general way. Anything else is ParseRequest's.
func ReadRequest(b []byte, in *Inbound) (now time.Time, config []byte, err error) {
	if now, config, ok := quickRequest(b, in); ok {
		return now, config, nil
	}
	return ParseRequest(b, in)
}

// Tags of fields 1 to 3 that hold bytes.
const (
	tag1 = 1<<3 | 2
	tag2 = 2<<3 | 2
	tag3 = 3<<3 | 2
)

func quickRequest(b []byte, in *Inbound) (now time.Time, config []byte, ok bool) {
	body, i := quickField(b, 0, tag1)
	if i < 0 {
		return now, nil, false
	}
	event, j := quickField(body, 0, tag1)
	if j < 0 {
		return now, nil, false
	}
	transport, j := quickField(body, j, tag2)
	if j != len(body) || !quickEvent(event, &in.Event) || !quickTransport(transport, &in.Transport) {
		return now, nil, false
	}
	v, i := quickField(b, i, tag2)
	if i < 0 {
		return now, nil, false
	}
	if now, ok = quickTime(v); !ok {
		return now, nil, false
	}
	if i < len(b) {
		if config, i = quickField(b, i, tag3); len(config) == 0 {
			return now, nil, false
		}
	}
	return now, config, i == len(b)
}

// quickField returns the value of the bytes field that begins at b[i], and where
// the next field begins; below zero when there is no such field.
func quickField(b []byte, i int, tag byte) (v []byte, next int) {
	if i+1 >= len(b) || b[i] != tag {
		return nil, -1
	}
	n, i := quickLength(b, i+1)
	if n < 0 || n > len(b)-i {
		return nil, -1
	}
	return b[i : i+n : i+n], i + n
}

// quickLength reads a length of up to three bytes at b[i], and says where what it
// measures begins; the length is below zero when there is none.
func quickLength(b []byte, i int) (n, next int) {
	for shift := 0; shift < 21 && i < len(b); shift += 7 {
		c := b[i]
		i++
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			return n, i
		}
	}
	return -1, i
}

func quickEvent(b []byte, e *Event) bool {
	*e = Event{Extensions: e.Extensions[:0]}
	versions := 0
	for i := 0; i < len(b); {
		if len(b)-i < 2 {
			return false
		}
		tag, n := b[i], int(b[i+1])
		if i += 2; n >= 0x80 {
			if n, i = quickLength(b, i-1); n < 0 {
				return false
			}
		}
		if n > len(b)-i {
			return false
		}
		v := b[i : i+n : i+n]
		i += n
		var field *string
		switch tag {
		case ceAttributes<<3 | 2:
			if !quickAttribute(v, e) {
				return false
			}
			continue
		case ceID<<3 | 2:
			field = &e.ID
		case ceSource<<3 | 2:
			field = &e.Source
		case ceType<<3 | 2:
			field = &e.Type
		case ceSpecVersion<<3 | 2:
			if versions++; string(v) != SpecVersion {
				return false
			}
			continue
		case ceBinary<<3 | 2:
			if e.Data != nil {
				return false
			}
			e.Data = v
			continue
		default:
			return false
		}
		if *field != "" || n == 0 {
			return false
		}
		*field = wire.Alias(v)
	}
	return versions == 1
}

// shortEntry reads a map entry of attributes that is laid out as AppendEvent does
// it, with lengths of one byte each. kind is the tag of the value, 0 for any other
// entry.
func shortEntry(b []byte) (name string, value []byte, kind byte) {
	if len(b) < 6 || len(b) >= 0x80 || b[0] != tag1 || int(b[1]) > len(b)-6 {
		return "", nil, 0
	}
	v := b[2+b[1]:]
	if v[0] != tag2 || int(v[1]) != len(v)-2 || int(v[3]) != len(v)-4 {
		return "", nil, 0
	}
	return wire.Alias(b[2 : 2+b[1]]), v[4:], v[2]
}

// quickAttribute reads a short entry with a string or a time.
func quickAttribute(b []byte, e *Event) bool {
	name, v, kind := shortEntry(b)
	if kind == ceTimestamp<<3|2 {
		if name != "time" || !e.Time.IsZero() {
			return false
		}
		var ok bool
		e.Time, ok = quickTime(v)
		return ok
	}
	if kind != ceString<<3|2 || len(v) == 0 {
		return false
	}
	var field *string
	switch name {
	case "subject":
		field = &e.Subject
	case "application":
		field = &e.Application
	case "device":
		field = &e.Device
	case "sender":
		field = &e.Sender
	case "datacontenttype":
		field = &e.DataContentType
	default:
		return e.set(Attribute{Name: name, Value: wire.Alias(v)}) == nil
	}
	if *field != "" {
		return false
	}
	*field = wire.Alias(v)
	return true
}

func quickTransport(b []byte, t *Transport) bool {
	*t = Transport{Properties: t.Properties[:0]}
	for i := 0; i < len(b); {
		if len(b)-i < 2 {
			return false
		}
		tag, n := b[i], int(b[i+1])
		i += 2
		if tag == 3<<3 { // QoS
			if n < 1 || n > 2 || t.QoS != 0 {
				return false
			}
			t.QoS = byte(n)
			continue
		}
		if n >= 0x80 {
			if n, i = quickLength(b, i-1); n < 0 {
				return false
			}
		}
		var field *string
		switch tag {
		case 1<<3 | 2:
			field = &t.Protocol
		case 2<<3 | 2:
			field = &t.Topic
		case 11<<3 | 2:
			field = &t.ClientID
		case 12<<3 | 2:
			field = &t.Username
		case 13<<3 | 2:
			field = &t.Peer
		default:
			return false
		}
		if n == 0 || n > len(b)-i || *field != "" {
			return false
		}
		*field = wire.Alias(b[i : i+n])
		i += n
	}
	return true
}

// quickTime reads a Timestamp of the years 1970 to 9999 with its fields in order.
func quickTime(b []byte) (t time.Time, ok bool) {
	var v [2]uint64 // seconds, nanoseconds
	i := 0
	for f := range v {
		if i == len(b) {
			break
		}
		if b[i] != byte(f+1)<<3 {
			return t, false
		}
		shift := 0
		for i++; i < len(b) && shift < 49; shift += 7 {
			c := b[i]
			i++
			v[f] |= uint64(c&0x7f) << shift
			if c < 0x80 {
				shift = 100
			}
		}
		if shift < 100 {
			return t, false
		}
	}
	if i != len(b) || v[0] > 253402300799 || v[1] >= uint64(time.Second) {
		return t, false
	}
	return time.Unix(int64(v[0]), int64(v[1])).UTC(), true
}
