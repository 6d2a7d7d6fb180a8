package codec

import (
	"encoding/binary"
	"time"
	"unsafe"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// The index of a HandleRequest tells a plugin where the parts of a usual request
// are, so that reading one takes no parsing: each branch and call that parsing
// takes is dear in WebAssembly. schemas/plugin.proto describes its layout. A
// request with parts that have no place in it has no index.

// index is its fixed part, in the byte order of WebAssembly.
type index struct {
	flags   uint64 // indexData, indexText, indexRetain, indexTime, and the QoS from indexQoS on
	texts   [len(indexed{}.texts)]extent
	data    extent
	config  extent
	seconds [2]int64 // of the event and of the call
	nanos   [2]uint32
}

// extent is a place in the request.
type extent struct{ at, n uint32 }

const (
	indexField = 15
	indexTag   = indexField<<3 | 2
	indexBytes = 8 + (13+2)*8 + 2*12

	indexData   = 1 << 0 // there is data
	indexText   = 1 << 1 // it is text
	indexRetain = 1 << 2
	indexTime   = 1 << 3 // the event has a time
	indexQoS    = 8
)

// indexed is the texts that an index has places for, in their order.
type indexed struct{ texts [13]string }

func textsOf(in *event.Inbound) indexed {
	e, t := &in.Event, &in.Transport
	return indexed{[...]string{e.ID, e.Source, e.Type, e.Subject, e.DataContentType, e.Application, e.Device, e.Sender,
		t.Protocol, t.Topic, t.ClientID, t.Username, t.Peer}}
}

// maxIndexed bounds the texts of an index, which stand in the request twice.
const maxIndexed = 8 << 10

// openIndex begins a request with an index and returns its place, or a number below zero if the
// request has none. closeIndex completes it.
func openIndex(dst []byte, in *event.Inbound, now time.Time) ([]byte, int) {
	e, t := &in.Event, &in.Transport
	if in.Original != nil || e.TimeText != "" || e.DataSchema != "" || len(e.Extensions) > 0 || len(t.Properties) > 0 ||
		t.ResponseTopic != "" || t.Correlation != nil ||
		t.Method != "" || t.Path != "" || t.Query != "" || t.Upload != nil {
		return dst, -1
	}
	texts, total := textsOf(in), 0
	for _, s := range texts.texts {
		total += len(s)
	}
	if total > maxIndexed {
		return dst, -1
	}
	start := len(dst)
	dst, m := wire.Open(dst, indexField, indexBytes+total)
	at := len(dst)
	flags := uint64(t.QoS) << indexQoS
	set := func(flag uint64, is bool) {
		if is {
			flags |= flag
		}
	}
	set(indexData, e.Data != nil)
	set(indexText, e.Text)
	set(indexRetain, t.Retain)
	set(indexTime, !e.Time.IsZero())
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, flags)
	place := at - start + indexBytes
	for _, s := range texts.texts {
		dst = le.AppendUint32(le.AppendUint32(dst, uint32(place)), uint32(len(s)))
		place += len(s)
	}
	dst = append(dst, make([]byte, 16)...) // data and config: see closeIndex
	dst = le.AppendUint64(le.AppendUint64(dst, uint64(e.Time.Unix())), uint64(now.Unix()))
	dst = le.AppendUint32(le.AppendUint32(dst, uint32(e.Time.Nanosecond())), uint32(now.Nanosecond()))
	for _, s := range texts.texts {
		dst = append(dst, s...)
	}
	return wire.Close(dst, m), at
}

// closeIndex writes the places of the data and the config of a complete request into the index.
func closeIndex(request []byte, at int, data, config extent) {
	le, b := binary.LittleEndian, request[at+8+8*len(indexed{}.texts):]
	le.PutUint32(b, data.at)
	le.PutUint32(b[4:], data.n)
	le.PutUint32(b[8:], config.at)
	le.PutUint32(b[12:], config.n)
}

// ReadRequest is ParseRequest for a plugin, which trusts the gateway. It believes an index,
// except for places that are not in the request.
func ReadRequest(b []byte, in *event.Inbound) (now time.Time, config []byte, err error) {
	at := 2
	if len(b) < indexBytes+3 || b[0] != indexTag {
		return ParseRequest(b, in)
	}
	if b[1] >= 0x80 { // the length takes two bytes
		at = 3
	}
	base := unsafe.Pointer(unsafe.SliceData(b))
	x := (*index)(unsafe.Add(base, at))
	if !x.within(len(b)) {
		return ParseRequest(b, in)
	}
	text := func(i int) string { return x.texts[i].text(base) }
	in.Event = event.Event{
		ID: text(0), Source: text(1), Type: text(2), Subject: text(3), DataContentType: text(4),
		Application: text(5), Device: text(6), Sender: text(7),
		Extensions: in.Event.Extensions[:0],
		Text:       x.flags&indexText != 0,
	}
	if x.flags&indexData != 0 {
		in.Event.Data = x.data.bytes(base)
	}
	in.Original, in.Sent = nil, nil
	in.Transport = event.Transport{
		Protocol: text(8), Topic: text(9), ClientID: text(10), Username: text(11), Peer: text(12),
		QoS: byte(x.flags >> indexQoS), Retain: x.flags&indexRetain != 0,
		Properties: in.Transport.Properties[:0],
	}
	now = time.Unix(x.seconds[1], int64(x.nanos[1])).UTC()
	switch {
	case x.flags&indexTime == 0:
	case x.seconds[0] == x.seconds[1] && x.nanos[0] == x.nanos[1]:
		in.Event.Time = now
	default:
		in.Event.Time = time.Unix(x.seconds[0], int64(x.nanos[0])).UTC()
	}
	if x.config.n > 0 {
		config = x.config.bytes(base)
	}
	return now, config, nil
}

// within says whether all places are in a request of n bytes. It does not branch on
// each of them.
func (x *index) within(n int) bool {
	left := int64(n) - int64(x.data.at) - int64(x.data.n)
	left |= int64(n) - int64(x.config.at) - int64(x.config.n)
	for i := range x.texts {
		left |= int64(n) - int64(x.texts[i].at) - int64(x.texts[i].n)
	}
	return left >= 0
}

// text and bytes are views on the request. They spare the checks of unsafe.String.
func (x extent) text(base unsafe.Pointer) string {
	s := struct {
		p unsafe.Pointer
		n int
	}{unsafe.Add(base, x.at), int(x.n)}
	return *(*string)(unsafe.Pointer(&s))
}

func (x extent) bytes(base unsafe.Pointer) []byte {
	s := struct {
		p      unsafe.Pointer
		n, cap int
	}{unsafe.Add(base, x.at), int(x.n), int(x.n)}
	return *(*[]byte)(unsafe.Pointer(&s))
}
