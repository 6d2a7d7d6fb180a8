package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; it is only ever used up by a failure.
const patience = 60 * time.Second

// run is one check on one version of the protocol.
type run struct {
	*testing.T
	*target
	v byte   // 4 (MQTT 3.1.1) or 5
	n string // its own prefix of client identifiers and topics
}

var runs atomic.Int64

func newRun(t *testing.T, s *target, v byte) *run {
	return &run{T: t, target: s, v: v, n: fmt.Sprintf("c%d", runs.Add(1))}
}

// topic is one that no other check uses; id likewise a client identifier.
func (r *run) topic(name string) string { return r.n + "/" + name }
func (r *run) id(name string) string    { return r.n + name }

// peer is a client.
type peer struct {
	*run
	nc      net.Conn
	in      *bufio.Reader
	limit   int // Maximum Packet Size that it announced; 0: none
	aliases map[uint16]string
	most    uint16    // Topic Alias Maximum that it announced
	any     bool      // the CONNACK may be of either version
	held    []*answer // came while another was waited for
	nextID  uint16
}

// login is a CONNECT.
type login struct {
	id        string
	keep      bool // wants the session that there is, and it to stay
	fresh     bool // with keep: begins a new one
	keepAlive uint16
	will      *will
	user      string
	password  string
	props     props
}

type will struct {
	topic, payload string
	qos            byte
	retain         bool
	props          props
}

func (r *run) frame(l login) []byte {
	var flags byte
	p := l.props
	if !l.keep || l.fresh {
		flags |= 2
	}
	if l.keep && r.v == 5 {
		given := false
		for _, x := range p {
			given = given || x.id == sessionExpiry
		}
		if !given {
			p = append(p[:len(p):len(p)], prop{sessionExpiry, uint32(3600)})
		}
	}
	tail := []any{l.id}
	if w := l.will; w != nil {
		flags |= 4 | w.qos<<3
		if w.retain {
			flags |= 32
		}
		if r.v == 5 {
			tail = append(tail, w.props)
		}
		tail = append(tail, w.topic, blob(w.payload))
	}
	if l.user != "" {
		flags |= 0xC0
		tail = append(tail, l.user, blob(l.password))
	}
	head := []any{"MQTT", r.v, flags, l.keepAlive}
	if r.v == 5 {
		head = append(head, p)
	}
	return frame(CONNECT<<4, append(head, tail...)...)
}

// dial opens a connection and says nothing.
func (r *run) dial() *peer {
	r.Helper()
	nc, err := net.Dial("tcp", r.address)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { nc.Close() })
	return &peer{run: r, nc: nc, in: bufio.NewReader(nc), aliases: map[uint16]string{}}
}

// login connects; the CONNACK may say anything.
func (r *run) login(l login) (*peer, *answer) {
	r.Helper()
	p := r.dial()
	for _, x := range l.props {
		switch x.id {
		case maximumPacketSize:
			p.limit = int(x.value.(uint32))
		case topicAliasMaximum:
			p.most = x.value.(uint16)
		}
	}
	p.send(r.frame(l))
	return p, p.expect(CONNACK)
}

// connect connects and expects to be accepted.
func (r *run) connect(l login) *peer {
	r.Helper()
	p, ack := r.login(l)
	if ack.code != 0 {
		r.Fatalf("CONNACK %v", ack)
	}
	return p
}

// client is one with a clean session.
func (r *run) client(name string) *peer {
	r.Helper()
	return r.connect(login{id: r.id(name)})
}

func (p *peer) send(frames ...[]byte) {
	p.Helper()
	p.nc.SetWriteDeadline(time.Now().Add(patience))
	for _, f := range frames {
		if _, err := p.nc.Write(f); err != nil && !gone(err) {
			p.Fatalf("writing: %v", err)
		}
	}
}

func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// next is the next packet, or errEnd. What any packet may not be fails the test.
func (p *peer) next() (*answer, error) {
	p.Helper()
	if len(p.held) > 0 {
		a := p.held[0]
		p.held = p.held[1:]
		return a, nil
	}
	return p.within(patience)
}

func (p *peer) within(d time.Duration) (*answer, error) {
	p.Helper()
	p.nc.SetReadDeadline(time.Now().Add(d))
	first, err := p.in.ReadByte()
	if err != nil {
		if gone(err) {
			return nil, errEnd
		}
		return nil, err
	}
	size := 0
	header := reader{}
	for i := 0; i < 5; i++ {
		b, err := p.in.ReadByte()
		if err != nil {
			p.Fatalf("in a fixed header: %v", err)
		}
		if header.b = append(header.b, b); b&128 == 0 {
			break
		}
	}
	length := len(header.b)
	if size = header.varint(); header.err != nil {
		p.Fatalf("remaining length: %v", header.err)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(p.in, body); err != nil {
		p.Fatalf("in packet type %d: %v", first>>4, err)
	}
	a, err := parse(p.v, first, body)
	if err != nil && p.any {
		a, err = parse(9-p.v, first, body)
	}
	if err != nil {
		p.Fatalf("from the server: %v (% x % x)", err, first, body)
	}
	a.size = 1 + length + size
	p.check(a)
	return a, nil
}

// check holds a packet against what the client announced in CONNECT.
func (p *peer) check(a *answer) {
	p.Helper()
	if p.limit > 0 && a.size > p.limit {
		p.Fatalf("%d bytes, but the Maximum Packet Size is %d [MQTT-3.1.2-24]: %v", a.size, p.limit, a)
	}
	alias, ok := a.get(topicAlias).(uint16)
	switch {
	case !ok:
	case alias > p.most:
		p.Fatalf("topic alias %d, but the maximum is %d [MQTT-3.3.2-11]", alias, p.most)
	case a.topic != "":
		p.aliases[alias] = a.topic
	case p.aliases[alias] == "":
		p.Fatalf("topic alias %d was never set on this connection", alias)
	default:
		a.topic = p.aliases[alias]
	}
}

// expect receives a packet of a type.
func (p *peer) expect(typ byte) *answer {
	p.Helper()
	a, err := p.next()
	if err != nil {
		p.Fatalf("want packet type %d: %v", typ, err)
	}
	if a.typ != typ {
		p.Fatalf("want packet type %d, got %v", typ, a)
	}
	return a
}

// closed expects that the server closes the connection, as it must after an error.
// It may say why before: with the code, if that is not 0.
func (p *peer) closed(code byte) {
	p.Helper()
	for last := false; ; last = true {
		a, err := p.next()
		switch {
		case err == errEnd:
			return
		case err != nil:
			p.Fatalf("the connection should be closed: %v", err)
		case last || p.v != 5 || a.typ != DISCONNECT && a.typ != CONNACK || a.code < 0x80:
			p.Fatalf("the connection should be closed, got %v", a)
		case code != 0 && a.code != code:
			p.Fatalf("closed with %#x, want %#x", a.code, code)
		}
	}
}

// quiet expects that nothing is under way.
func (p *peer) quiet() {
	p.Helper()
	if p.foreign { // nothing says when it passes a message on
		time.Sleep(300 * time.Millisecond)
	}
	p.send([]byte{PINGREQ << 4, 0})
	p.expect(PINGRESP)
}

// leave disconnects and waits for the end.
func (p *peer) leave() {
	p.Helper()
	p.send([]byte{DISCONNECT << 4, 0})
	if a, err := p.next(); err != errEnd {
		p.Fatalf("after DISCONNECT: %v, %v", a, err)
	}
	p.nc.Close()
}

// cut ends the connection without a word.
func (p *peer) cut() { p.nc.Close() }

func (p *peer) newID() uint16 {
	p.nextID++
	return p.nextID
}

// message is a PUBLISH.
type message struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16
	props          props
}

func (r *run) publish(m message) []byte {
	first := byte(PUBLISH<<4) | m.qos<<1
	if m.retain {
		first |= 1
	}
	if m.dup {
		first |= 8
	}
	parts := []any{m.topic}
	if m.qos > 0 {
		parts = append(parts, m.id)
	}
	if r.v == 5 {
		parts = append(parts, m.props)
	}
	return frame(first, append(parts, []byte(m.payload))...)
}

func ack(typ byte, id uint16) []byte {
	first := typ << 4
	if typ == PUBREL {
		first |= 2
	}
	return frame(first, id)
}

// say publishes a message and waits until the server has taken it.
func (p *peer) say(m message) {
	p.Helper()
	if m.id == 0 {
		m.id = p.newID()
	}
	p.send(p.publish(m))
	switch m.qos {
	case 0:
		p.quiet()
	case 1:
		p.acked(PUBACK, m.id)
	case 2:
		p.acked(PUBREC, m.id)
		p.send(ack(PUBREL, m.id))
		p.acked(PUBCOMP, m.id)
	}
}

// acked expects a good acknowledgement.
func (p *peer) acked(typ byte, id uint16) *answer {
	p.Helper()
	a := p.expect(typ)
	if a.id != id || a.code >= 0x80 {
		p.Fatalf("want type %d for %d, got %v", typ, id, a)
	}
	return a
}

// options of a subscription; in MQTT 3.1.1 the QoS only.
const (
	noLocal       = 4
	asPublished   = 8
	onlyIfNew     = 16
	neverRetained = 32
)

func (r *run) subscribeFrame(id uint16, options byte, p props, filters ...string) []byte {
	parts := []any{id}
	if r.v == 5 {
		parts = append(parts, p)
	} else {
		options &= 3
	}
	for _, f := range filters {
		parts = append(parts, f, options)
	}
	return frame(SUBSCRIBE<<4|2, parts...)
}

// subscribe expects every filter to be granted.
func (p *peer) subscribe(options byte, filters ...string) {
	p.Helper()
	p.subscribeWith(options, nil, filters...)
}

func (p *peer) subscribeWith(options byte, list props, filters ...string) {
	p.Helper()
	id := p.newID()
	p.send(p.subscribeFrame(id, options, list, filters...))
	a := p.expect(SUBACK)
	if a.id != id || strings.Trim(string(a.codes), string([]byte{options & 3})) != "" || len(a.codes) != len(filters) {
		p.Fatalf("SUBACK for %d, %q with %#x: %v", id, filters, options, a)
	}
}

func (r *run) unsubscribeFrame(id uint16, filters ...string) []byte {
	parts := []any{id}
	if r.v == 5 {
		parts = append(parts, props(nil))
	}
	for _, f := range filters {
		parts = append(parts, f)
	}
	return frame(UNSUBSCRIBE<<4|2, parts...)
}

// hear receives a message, acknowledges it, and holds it against what it should be.
func (p *peer) hear(topic, payload string, qos byte) *answer {
	p.Helper()
	a := p.expect(PUBLISH)
	if a.topic != topic || a.payload != payload || a.qos() != qos {
		p.Fatalf("want %q %q QoS %d, got %v", topic, payload, qos, a)
	}
	p.take(a)
	return a
}

// take acknowledges a message to the end.
func (p *peer) take(a *answer) {
	p.Helper()
	switch a.qos() {
	case 1:
		p.send(ack(PUBACK, a.id))
	case 2:
		p.send(ack(PUBREC, a.id))
		var others []*answer
		for got := p.mustNext(); ; got = p.mustNext() {
			if got.typ == PUBREL && got.id == a.id {
				break
			}
			others = append(others, got)
		}
		p.held = append(others, p.held...)
		p.send(ack(PUBCOMP, a.id))
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
