package sdk

import (
	"iter"
	"strconv"
	"time"
	"unsafe"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// Request is one event to handle, and the effects that the handler answers with.
// Everything that it returns or holds shares memory with the message from the
// gateway and is valid until the handler returns: keep nothing of it. It is not
// safe for concurrent use.
type Request struct {
	// Inbound is the event with its transport: r.Event.Subject, r.Transport.Topic.
	event.Inbound
	// Now is the time of the call, which is also what time.Now returns in a plugin:
	// the event's time, so that handling it again gives the same.
	Now time.Time

	host     host
	settings []byte
	config   Value
	data     Value
	docs     [6]document // what values are views of
	parsed   int         // of docs
	read     uint8       // which of config and data have been parsed
	state    []byte
	writer   Writer
	out      []byte // the response so far: its open messages, then effects
	result   wire.Mark
	effects  wire.Mark
	refused  *event.Failure // a host call that was refused
}

const (
	readConfig = 1 << iota
	readData
)

// host is the interface to the gateway; see ABI.md, Imports.
type host interface {
	stateGet(key string, buf []byte) int64
	stateScan(prefix, after string, limit int32, buf []byte) int64
	log(level Level, message string)
}

// Answers of stateGet and stateScan other than a length.
const (
	stateAbsent  = -1
	stateRefused = -2
)

// JSON reads the event's data as JSON and follows member names into it; without
// a path it is the whole document. It is Missing when the data is not valid JSON
// or has no such member.
func (r *Request) JSON(path ...string) Value {
	if r.read&readData == 0 {
		r.read |= readData
		r.data = r.Parse(r.Event.Data)
	}
	return r.data.Get(path...)
}

// Parse is ParseJSON with memory that is used again for the next event.
func (r *Request) Parse(b []byte) Value {
	if r.parsed == len(r.docs) {
		return ParseJSON(b)
	}
	r.parsed++
	return r.docs[r.parsed-1].parse(b)
}

// Config reads a setting of the plugin: what [plugins.<name>.settings] of
// gateway.toml says, as JSON. Missing when it is not set.
func (r *Request) Config(path ...string) Value {
	if r.read&readConfig == 0 {
		r.read |= readConfig
		r.config = r.Parse(r.settings)
	}
	return r.config.Get(path...)
}

// State returns the value of a key of the plugin's state, per application; ok is false if there
// is none. It is the value from before this event: what the handler puts now is seen by the
// next event. If another event changes the key meanwhile, the gateway calls the handler again.
// Without a grant of state the event fails, also if the handler returns no error.
func (r *Request) State(key string) (value []byte, ok bool) {
	for {
		room := r.state[len(r.state):cap(r.state)]
		n := r.host.stateGet(key, room)
		switch {
		case n == stateAbsent:
			return nil, false
		case n < 0:
			r.refused = &event.Failure{Code: event.ImplementationSpecificError, Message: "reading the state key " + strconv.Quote(key) +
				" was refused: it takes the grant state_bytes in gateway.toml, a key of 1 to 1024 bytes, and at most 4096 keys and 16 MiB per event"}
			return nil, false
		case int(n) <= len(room):
			r.state = r.state[:len(r.state)+int(n)]
			return room[:n:n], true
		}
		r.state = make([]byte, 0, max(scratchRoom, 2*int(n))) // values that were returned keep the old memory
	}
}

// Scan ranges over the keys of the plugin's state that begin with prefix and come
// behind after, in the order of their bytes, as they are after what the handlers
// before this one in the same event have put. An empty after begins with the first
// key; the last key of one event makes the next go on from there. What was seen is
// guarded like what State returns: a key that another event adds to it, changes or
// removes meanwhile makes the gateway call the handler again. One event may see 4096
// keys in scans.
//
//	for key, value := range r.Scan("jobs/", "") {
func (r *Request) Scan(prefix, after string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for {
			page := r.page(prefix, after)
			if len(page) == 0 {
				return
			}
			for len(page) >= entryHeader {
				keyLen, valueLen := le32(page), le32(page[4:])
				end := entryHeader + keyLen + valueLen
				key, value := page[entryHeader:entryHeader+keyLen], page[entryHeader+keyLen:end:end]
				after = unsafe.String(unsafe.SliceData(key), keyLen)
				if !yield(after, value) {
					return
				}
				page = page[end:]
			}
		}
	}
}

const (
	entryHeader = 8  // of an entry of a scan: two lengths
	pageKeys    = 64 // keys of one page: what is asked for counts as read
	pageRoom    = 4 << 10
)

func le32(b []byte) int {
	return int(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
}

// page returns the next entries of a scan; none: there are no more.
func (r *Request) page(prefix, after string) []byte {
	need := pageRoom
	for {
		if cap(r.state)-len(r.state) < need {
			r.state = make([]byte, 0, 2*need) // what was returned keeps the old memory
		}
		room := r.state[len(r.state):cap(r.state)]
		n := int(r.host.stateScan(prefix, after, pageKeys, room))
		switch {
		case n < 0:
			r.refused = &event.Failure{Code: event.ImplementationSpecificError, Message: "scanning the state keys " + strconv.Quote(prefix) +
				" was refused: it takes the grant state_bytes in gateway.toml, and at most 4096 keys, 64 pages and 16 MiB per event"}
			return nil
		case n <= len(room):
			r.state = r.state[:len(r.state)+n]
			return room[:n:n]
		}
		need = n
	}
}

// Scratch returns an empty slice with room for n bytes, which is used again for the
// next event. In a handler that is called often it saves the garbage collector work
// that a slice of its own would make.
func (r *Request) Scratch(n int) []byte {
	at := len(r.state)
	if cap(r.state)-at < n {
		r.state, at = make([]byte, 0, max(scratchRoom, 2*n)), 0 // what was returned keeps the old memory
	}
	r.state = r.state[:at+n]
	return r.state[at : at : at+n]
}

const scratchRoom = 4 << 10

// Join puts texts together in the memory of Scratch, as a key or a topic of several
// parts takes it.
func (r *Request) Join(parts ...string) string {
	n := 0
	for _, s := range parts {
		n += len(s)
	}
	b := r.Scratch(n)
	for _, s := range parts {
		b = append(b, s...)
	}
	return view(b)
}

// Writer returns an empty Writer for the data of an event or a payload. There is
// one for each request and asking again empties it: give what it wrote to an
// effect first, or declare a Writer of your own.
func (r *Request) Writer() *Writer { return r.writer.Reset() }

// Log writes a line to the gateway's log, which names the plugin and the event.
// The gateway cuts off what is too long.
func (r *Request) Log(level Level, message string) { r.host.log(level, message) }

// Do adds an effect. It copies what the effect refers to. The effects of an
// event are done in order, together or not at all; what the operator did not
// grant fails the event. The methods below are short for the effects of the same
// names.
func (r *Request) Do(e event.Effect) { r.out = codec.AppendEffect(r.out, e) }

// Emit writes an event to the application's log. Type is required. The gateway
// fills in an absent id, source and time, and sets application and sender. See
// event.Emit for Device.
func (r *Request) Emit(e event.Event) { r.out = codec.AppendEmit(r.out, &e) }

// Pass hands an event on to the next route that matches it, once at most.
func (r *Request) Pass(e event.Event) { r.Do(&event.Pass{Event: e}) }

// Publish sends an MQTT message to devices of the application.
func (r *Request) Publish(p event.Publish) { r.out = codec.AppendPublish(r.out, &p) }

// Put writes a key of the plugin's state; ttl 0 keeps it until it is deleted.
func (r *Request) Put(key string, value []byte, ttl time.Duration) {
	r.out = codec.AppendPut(r.out, &event.Put{Key: key, Value: value, TTL: ttl})
}

// Delete removes a key of the plugin's state.
func (r *Request) Delete(key string) { r.Do(&event.Delete{Key: key}) }

// Reply answers the waiting source with an MQTT reason code (0x80 and above
// refuse the event and drop its other effects) or an HTTP status, and a reason
// that the client may see.
func (r *Request) Reply(code event.Code, reason string) {
	r.Do(&event.Reply{Code: code, Reason: reason})
}

// SetTimer asks for an event of type event.TypeTimer at a time, or at once when
// that has passed: its subject is the key, its data is data, and application and
// device are those of this event. A timer with the same key is replaced. It fires
// once, also when the gateway was stopped at its time.
func (r *Request) SetTimer(key string, at time.Time, data []byte) {
	r.Do(&event.SetTimer{Key: key, At: at, Data: data})
}

// CancelTimer removes a timer; there need not be one.
func (r *Request) CancelTimer(key string) { r.Do(&event.CancelTimer{Key: key}) }

// Call makes an HTTP request after the event is committed, as often as it takes.
// Its answer is an event of type event.TypeResponse with c.ID as its subject; see
// Status. The server may get the request more than once, each time with the same
// header Idempotency-Key, which is the plugin's own if it sets one.
func (r *Request) Call(c event.Call) { r.Do(&c) }

// KeepFile keeps the event's upload (r.Transport.Upload) as a file of the plugin in
// the event's application. ttl 0 keeps it until it is dropped. An event without an
// upload keeps nothing.
func (r *Request) KeepFile(name string, ttl time.Duration) {
	if u := r.Transport.Upload; u != nil {
		r.Do(&event.KeepFile{Name: name, Upload: u.ID, TTL: ttl})
	}
}

// AppendFile is KeepFile that puts the upload behind what the file holds.
func (r *Request) AppendFile(name string, ttl time.Duration) {
	if u := r.Transport.Upload; u != nil {
		r.Do(&event.KeepFile{Name: name, Upload: u.ID, Append: true, TTL: ttl})
	}
}

// DropFile deletes a file of the plugin; there need not be one.
func (r *Request) DropFile(name string) { r.Do(&event.DropFile{Name: name}) }

// Status reads the answer to a Call: the HTTP status, or 0 and why there was no
// answer. The body is the event's data, the headers are r.Transport.Properties.
func (r *Request) Status() (status int, problem string) {
	text, _ := r.Event.Extension("status")
	status, _ = strconv.Atoi(text)
	problem, _ = r.Event.Extension("error")
	return status, problem
}

// Allow accepts the credentials of an event of type event.TypeConnect, as those of a.Device of
// a.Application. The application may be empty if the gateway asked about one application. It is
// the only effect of the event.
func (r *Request) Allow(a event.Allow) { r.Do(&a) }

// Deny refuses the credentials. The reason is for the operator's log and must not
// hold any of them.
func (r *Request) Deny(reason string) { r.Do(&event.Deny{Reason: reason}) }

// keep bounds the memory that is kept for the next event.
const keep = 256 << 10

// serve handles one encoded request and returns the encoded response, which is
// valid until the next call. An error says that there was no request to handle.
func (r *Request) serve(h Handler, in []byte) ([]byte, error) {
	r.reset()
	now, config, err := codec.ReadRequest(in, &r.Inbound)
	if err != nil {
		return nil, err
	}
	r.Now, r.settings = now, config
	guess := len(in)
	r.out, r.result = wire.Open(r.out, 1, guess)
	r.out, r.effects = wire.Open(r.out, 1, guess)
	err = h(r)
	switch {
	case r.refused != nil:
		r.out = codec.AppendResponse(r.out[:0], &event.Result{Failure: r.refused})
	case err != nil:
		r.out = codec.AppendResponse(r.out[:0], &event.Result{Failure: failure(err)})
	default:
		r.out = wire.Close(wire.Close(r.out, r.effects), r.result)
	}
	return r.out, nil
}

func (r *Request) reset() {
	r.read, r.refused, r.parsed = 0, nil, 0
	r.config, r.data = Value{}, Value{}
	for i := range r.docs {
		r.docs[i].text = nil
		if cap(r.docs[i].nodes) > keep/16 {
			r.docs[i].nodes = nil
		}
	}
	r.out, r.state = reuse(r.out), reuse(r.state)
	r.writer.buf = reuse(r.writer.buf)
}

func reuse(b []byte) []byte {
	if cap(b) > keep {
		return nil
	}
	return b[:0]
}
