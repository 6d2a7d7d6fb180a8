package mqtt

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// FuzzSessions runs its input as a program of three clients: they come with a kept
// session or a clean one and with different Receive Maximums, subscribe, publish,
// acknowledge in any order or not at all, break off, take their own sessions over,
// and come back. A model knows what each must have got in the end, what it may not
// get at any time, and how.
func FuzzSessions(f *testing.F) {
	for _, program := range [][]byte{
		{},
		{comes, 1, subscribes, 0x09, comes, 0, publishes, 0, publishes, 0x04, publishes, 0x08, ends, 1, ends, 1}, // each QoS to one that is there
		{comes, 1, subscribes, 0x09, breaks, 1, comes, 0, publishes, 0x08, publishes, 0x04, comes, 1, ends, 1},   // queued while away
		{comes, 0x05, subscribes, 0x09, comes, 0, publishes, 0x08, publishes, 0x08, ends, 5, ends, 1, breaks, 1, comes, 0x05},
		{comes, 1, comes, 2, subscribes, 0x0a, halves, 0x05, comes, 1, halves, 0x09, overtakes, 2, publishes, 0x05},
		{comes, 1, subscribes, 0x09, comes, 0x41, comes, 0, publishes, 0x08, comes, 0x81, publishes, 0x08}, // clean start, clean session
		{comes, 1, subscribes, 0x09, comes, 0, publishes, 0x08, publishes, 0x04, receives, 1, breaks, 1, comes, 1, receives, 1, breaks, 1, comes,
			1},
	} {
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 200 {
			program = program[:200]
		}
		w := &world{t: t, f: start(t, nil, func(c *settings, f *fixture) {
			c.Linger = 10 * time.Millisecond
			f.router.got = make(chan submitted) // small: timers of sessions hold on to it
		})}
		for i := range w.users {
			w.users[i] = &user{w: w, name: fmt.Sprint("user", i), filters: map[int]byte{}, ever: map[int]byte{}, received: map[uint16]int{},
				seen: map[int]int{}, must: map[int]byte{}, late: map[string]int{}}
		}
		for len(program) >= 2 && !t.Failed() {
			w.step(program[0], program[1])
			program = program[2:]
		}
		w.finish()
	})
}

// world is the server, its users, and the number of the latest message.
type world struct {
	t     *testing.T
	f     *fixture
	users [3]*user
	n     int
}

// user is a client with what it knows of its session.
type user struct {
	w        *world
	name     string
	c        *client // nil while away
	kept     bool    // its session outlives the connection
	window   int     // its Receive Maximum
	since    int     // its session got nothing before this message
	filters  map[int]byte
	ever     map[int]byte      // the best of them that its session had
	open     []*packet.Publish // of QoS 1 and 2, not acknowledged to the end, on this connection
	released map[uint16]bool   // of these, PUBREC went
	received map[uint16]int    // QoS 2 identifiers that were received and not released: their message
	half     *packet.Publish   // its own QoS 2 message without PUBREL
	seen     map[int]int       // how often it got each message
	must     map[int]byte      // messages that it has to get, with their QoS
	late     map[string]int    // newest message for the first time, by topic and QoS
	id       uint16
}

// What a user does; the second byte of a step says who and how.
const (
	comes byte = iota
	subscribes
	publishes
	halves   // sends, or sends again, a QoS 2 message, and finishes it or not
	ends     // acknowledges a message to the end
	receives // acknowledges it one step
	breaks
	overtakes
	settles
	verbs
)

func (w *world) step(verb, arg byte) {
	u := w.users[arg&3%3]
	x := arg >> 2
	switch verb % verbs {
	case comes:
		u.connect(x&0x20 == 0, x&0x10 != 0, []int{1000, 1, 2, 7}[x&3])
	case subscribes:
		u.subscribe(int(x>>2&3), min(x&3, 2))
	case publishes:
		u.publish(int(x>>2&3), min(x&3, 2))
	case halves:
		u.halfPublish(int(x & 3))
	case ends:
		u.settle()
		u.acknowledge(int(x), true)
	case receives:
		u.settle()
		u.acknowledge(int(x), false)
	case breaks:
		u.cut()
	case overtakes:
		if u.c != nil { // a second connection takes the session over
			old := u.c
			u.c = nil
			u.connect(u.kept, false, u.window)
			old.nc.Close()
		}
	default:
		u.settle()
	}
}

// connect comes with a session that is kept or not; clean discards the old one.
func (u *user) connect(kept, clean bool, window int) {
	if u.c != nil {
		u.settle()
		u.c.send(&packet.Disconnect{})
		for p := u.c.recv(); p != nil; p = u.c.recv() {
			u.take(p)
		}
		u.leave()
	}
	had := u.kept
	props := &packet.Properties{ReceiveMaximum: ptr(uint16(window))}
	if kept {
		props.SessionExpiry = ptr(uint32(1000))
	}
	c := u.w.f.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, ClientID: u.name, CleanStart: clean, Props: props})
	ack := expect[*packet.Connack](c)
	if ack.Code != 0 || ack.SessionPresent && (clean || !had) {
		u.w.t.Fatalf("%s: CONNACK %+v; kept before: %v, clean: %v", u.name, ack, had, clean)
	}
	if had && !clean && !ack.SessionPresent {
		u.w.t.Fatalf("%s: its session is gone", u.name)
	}
	if !ack.SessionPresent {
		u.since = u.w.n
		clear(u.filters)
		clear(u.ever)
		clear(u.must)
		clear(u.received)
		u.half = nil
	}
	u.c, u.kept, u.window = c, kept, window
	u.open, u.released = nil, map[uint16]bool{}
}

// leave is what the end of a connection means to the model.
func (u *user) leave() {
	u.c = nil
	u.open = nil
	if !u.kept {
		clear(u.must)
	}
}

func (u *user) cut() {
	if u.c != nil {
		u.c.nc.Close()
		u.leave()
	}
}

func topicOf(k int) string { return fmt.Sprint("t/", k) }

// filterOf is one of four filters: three topics, and all of them.
func filterOf(k int) string {
	if k == 3 {
		return "t/#"
	}
	return topicOf(k)
}

func (u *user) subscribe(k int, qos byte) {
	if u.c == nil {
		return
	}
	u.settle()
	u.c.send(&packet.Subscribe{ID: 60_000, Filters: []packet.Filter{{Topic: filterOf(k), QoS: qos}}})
	if ack, ok := u.until(func(p packet.Packet) bool { _, is := p.(*packet.Suback); return is }).(*packet.Suback); !ok || ack.Codes[0] != qos {
		u.w.t.Fatalf("%s: SUBACK %+v", u.name, ack)
	}
	u.filters[k], u.ever[k] = qos, max(qos, u.ever[k])
}

// best is the QoS that filters give a topic, -1 for none.
func best(filters map[int]byte, k int) int {
	most := -1
	for _, f := range []int{k, 3} {
		if qos, ok := filters[f]; ok {
			most = max(most, int(qos))
		}
	}
	return most
}

// publish sends a message and waits until it is acknowledged to the end.
func (u *user) publish(k int, qos byte) {
	if u.c == nil {
		return
	}
	k %= 3
	p := u.message(k, qos)
	u.w.sent(k, qos)
	u.c.send(p)
	if qos > 0 {
		u.acked(map[byte]packet.Type{1: packet.PUBACK, 2: packet.PUBREC}[qos], p.ID)
	}
	if qos == 2 {
		u.c.send(&packet.Ack{Type: packet.PUBREL, ID: p.ID})
		u.acked(packet.PUBCOMP, p.ID)
	}
	if qos == 0 {
		u.settle()
	}
}

// halfPublish sends a QoS 2 message, or the one that is half sent again, and
// finishes it or breaks off.
func (u *user) halfPublish(how int) {
	if u.c == nil {
		return
	}
	p := u.half
	if p == nil {
		p = u.message(0, 2)
		u.w.sent(0, 2)
		u.c.send(p)
		u.acked(packet.PUBREC, p.ID)
		u.half = p
	} else {
		p.Dup = true
		u.c.send(p)
		u.acked(packet.PUBREC, p.ID)
	}
	switch {
	case how == 1:
		u.cut()
		if !u.kept {
			u.half = nil
		}
	case how > 1:
		u.c.send(&packet.Ack{Type: packet.PUBREL, ID: p.ID})
		u.acked(packet.PUBCOMP, p.ID)
		u.half = nil
	}
}

func (u *user) message(k int, qos byte) *packet.Publish {
	u.w.n++
	p := &packet.Publish{Topic: topicOf(k), QoS: qos, Payload: binary.BigEndian.AppendUint32(nil, uint32(u.w.n))}
	if qos > 0 {
		u.id = u.id%50_000 + 1
		p.ID = u.id
	}
	return p
}

// sent notes who has to get the newest message.
func (w *world) sent(k int, qos byte) {
	for _, u := range w.users {
		if g := best(u.filters, k); g > 0 && qos > 0 && (u.c != nil || u.kept) {
			u.must[w.n] = min(qos, byte(g))
		}
	}
}

func (u *user) acked(typ packet.Type, id uint16) {
	u.w.t.Helper()
	a, ok := u.until(func(p packet.Packet) bool {
		a, is := p.(*packet.Ack)
		return is && a.Type == typ && a.ID == id
	}).(*packet.Ack)
	if !ok || a.Code >= 0x80 {
		u.w.t.Fatalf("%s: %s %d: %+v", u.name, typ, id, a)
	}
}

// settle takes everything that is under way.
func (u *user) settle() {
	if u.c == nil {
		return
	}
	u.c.send(&packet.Pingreq{})
	u.until(func(p packet.Packet) bool { _, is := p.(*packet.Pingresp); return is })
}

// until takes packets as they come up to the one that is waited for.
func (u *user) until(is func(packet.Packet) bool) packet.Packet {
	u.w.t.Helper()
	for {
		switch p := u.c.recv(); {
		case p == nil:
			u.w.t.Fatalf("%s: the server closed the connection", u.name)
		case is(p):
			return p
		default:
			u.take(p)
		}
	}
}

// take holds a packet from the server against the model.
func (u *user) take(p packet.Packet) {
	t := u.w.t
	t.Helper()
	switch p := p.(type) {
	case *packet.Publish:
		u.hear(p)
	case *packet.Ack:
		if p.Type != packet.PUBREL {
			t.Fatalf("%s: %+v was not due", u.name, p)
		}
		for _, m := range u.open { // in the resumed session PUBREL comes without the message
			if m.ID == p.ID {
				return
			}
		}
		if _, known := u.received[p.ID]; !known {
			t.Fatalf("%s: PUBREL for %d, which it did not have", u.name, p.ID)
		}
		u.open = append(u.open, &packet.Publish{QoS: 2, ID: p.ID})
		u.released[p.ID] = true
	default:
		t.Fatalf("%s: %T %+v", u.name, p, p)
	}
}

func (u *user) hear(p *packet.Publish) {
	t := u.w.t
	t.Helper()
	n := int(binary.BigEndian.Uint32(p.Payload))
	var k int
	fmt.Sscanf(p.Topic, "t/%d", &k)
	switch {
	case best(u.ever, k) < int(p.QoS): // under a subscription that was replaced since, maybe
		t.Fatalf("%s: message %d with QoS %d, granted %d", u.name, n, p.QoS, best(u.ever, k))
	case n <= u.since:
		t.Fatalf("%s: message %d is older than its session, which began after %d", u.name, n, u.since)
	case p.QoS == 0 && u.seen[n] > 0:
		t.Fatalf("%s: message %d of QoS 0 again", u.name, n)
	}
	if p.QoS > 0 {
		for _, m := range u.open {
			if m.ID == p.ID {
				t.Fatalf("%s: packet identifier %d is in use", u.name, p.ID)
			}
		}
		if u.open = append(u.open, p); len(u.open) > u.window {
			t.Fatalf("%s: %d messages at once, its Receive Maximum is %d", u.name, len(u.open), u.window)
		}
	}
	if u.seen[n] > 0 && !p.Dup {
		t.Fatalf("%s: message %d again, without DUP", u.name, n)
	}
	first := true
	if p.QoS == 2 {
		if m, had := u.received[p.ID]; had && m == n {
			first = false // PUBREC was lost: it is not delivered twice
		} else if u.seen[n] > 0 {
			t.Fatalf("%s: message %d of QoS 2 again, as %d", u.name, n, p.ID)
		}
		u.received[p.ID] = n
	}
	if first {
		u.seen[n]++
	}
	if u.seen[n] == 1 && first {
		key := fmt.Sprint(p.Topic, p.QoS)
		if u.late[key] > n {
			t.Fatalf("%s: message %d came after %d", u.name, n, u.late[key])
		}
		u.late[key] = n
	}
	delete(u.must, n)
}

// acknowledge takes the open message at a place one step further, or to its end.
func (u *user) acknowledge(place int, end bool) {
	if u.c == nil || len(u.open) == 0 {
		return
	}
	place %= len(u.open)
	m := u.open[place]
	if m.QoS == 1 {
		u.c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
		u.open = append(u.open[:place:place], u.open[place+1:]...)
		u.settle()
		return
	}
	if !u.released[m.ID] {
		u.c.send(&packet.Ack{Type: packet.PUBREC, ID: m.ID})
		a, _ := u.until(func(p packet.Packet) bool {
			a, is := p.(*packet.Ack)
			return is && a.Type == packet.PUBREL && a.ID == m.ID
		}).(*packet.Ack)
		if a.Code != 0 {
			u.w.t.Fatalf("%s: PUBREL %+v", u.name, a)
		}
		u.released[m.ID] = true
	}
	if !end {
		return
	}
	for i := range u.open {
		if u.open[i].ID == m.ID {
			u.open = append(u.open[:i:i], u.open[i+1:]...)
			break
		}
	}
	delete(u.received, m.ID)
	delete(u.released, m.ID)
	u.c.send(&packet.Ack{Type: packet.PUBCOMP, ID: m.ID})
	u.settle()
}

// finish lets everybody with a session come back and take everything, and says
// what is missing.
func (w *world) finish() {
	for _, u := range w.users {
		if u.c == nil && u.kept {
			u.connect(true, false, 1000)
		}
		// QoS 2 comes when its identifier is on disk, so what is due may still be.
		for deadline := time.Now().Add(patience); u.c != nil && len(u.open)+len(u.must) > 0 && time.Now().Before(deadline); {
			u.settle()
			u.acknowledge(0, true)
		}
		if len(u.must) > 0 {
			w.t.Errorf("%s never got %v", u.name, u.must)
		}
		u.cut()
	}
}
