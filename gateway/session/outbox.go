package session

import (
	"cmp"
	"slices"
	"time"

	"tributary.io/gateway/stage"
)

// Item is one message on its way to one session: a message, or a record of a log.
type Item struct {
	Message *Message
	Log     *LogSubscription // of a record; nil for a message
	Record  stage.Record     // of a log, as the consumer stage gave it
	IDs     []uint32         // subscription identifiers
	shared  *subscription    // the shared subscription that it was picked for, if any
	replay  *replay          // the item stands for the retained messages of a subscription
	QoS     byte
	Retain  bool
	prompt  bool // it may go out at once, so that it has not expired [MQTT-3.3.2-5]

	// Where the store has the message: its number among the entries of the session
	// (0: nowhere), and that of its body, if it is shared between sessions.
	seq, body uint64
}

// flightState is how far a flight is on the present connection.
type flightState uint8

const (
	flightAgain flightState = iota // it is to be sent again
	flightHeld                     // it goes out when its packet identifier is durable
	flightSent
)

// flight is an item of QoS 1 or 2 that has a packet identifier.
type flight struct {
	Item
	id       uint16
	number   uint64 // order of sending
	state    flightState
	released bool // QoS 2: PUBREC has come, PUBREL went
	tried    bool // it was sent before, on whatever connection
	bound    bool // restored: its entry was found
	void     bool // nothing is left to send again
	size     int  // bytes that it counts as flying
}

// outbox is what a session has to send: a queue of items that were not sent yet,
// and the flights that await their acknowledgement. It knows neither connection
// nor lock (its session's guards it), so that a durable one can take its place.
// Packet identifiers here are the server's own; the client's live in session.incoming.
type outbox struct {
	queue   []Item // from head on
	head    int
	waiting int // messages in the queue; records do not count, their log holds them
	bytes   int // of these messages
	expiry  expiry

	// reserved counts messages whose commit is under way as waiting.
	reserved, reservedBytes int
	// shelf is the queue of a session that is not connected, where the store has the
	// messages: what memory keeps of them. It comes before queue.
	shelf  []slot
	parked []*replay // those that stand on the shelf

	flights map[uint16]*flight
	again   []*flight // to be sent again on this connection, in order, before the queue
	out     int       // flights that were sent on this connection
	flying  int       // bytes of messages in flight
	lastID  uint16
	number  uint64
	free    *flight // one to use again
}

// slot is one message on the shelf, or, without a number, the replay in parked at body.
type slot struct {
	seq, body uint64
	expires   int64 // Unix nanoseconds; 0: never
	size      int32
	qos       byte
	shared    bool // it came by a shared subscription
}

func (o *outbox) empty() bool { return o.head == len(o.queue) && len(o.again) == 0 }

func (o *outbox) push(it Item) {
	if it.Message != nil {
		o.waiting++
		o.bytes += it.Message.size()
		o.expiry.note(it.Message.Expires)
	}
	if o.head > 64 && o.head*2 > len(o.queue) {
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
	o.queue = append(o.queue, it)
}

// peek is the first item of a queue that is not empty.
func (o *outbox) peek() *Item { return &o.queue[o.head] }

func (o *outbox) pop() Item {
	it := o.queue[o.head]
	o.queue[o.head] = Item{}
	o.head++
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
		if cap(o.queue) > 256 { // a burst is over
			o.queue = nil
		}
	}
	if it.Message != nil {
		o.waiting--
		o.bytes -= it.Message.size()
	}
	return it
}

// filter drops the items of the queue that want says no to, and returns them.
func (o *outbox) filter(want func(*Item) bool) (dropped []Item) {
	old := o.queue[o.head:]
	o.queue, o.head, o.waiting, o.bytes, o.expiry = nil, 0, 0, 0, expiry{}
	for i := range o.shelf {
		if o.shelf[i].seq != 0 {
			o.count(&o.shelf[i])
		}
	}
	for i := range old {
		if want(&old[i]) {
			o.push(old[i])
		} else {
			dropped = append(dropped, old[i])
		}
	}
	return dropped
}

// purge drops the messages that have expired [MQTT-3.3.2-5], and returns them.
func (o *outbox) purge(now time.Time) (dropped []Item) {
	if !o.expiry.due(now) {
		return nil
	}
	var late []Item
	o.shelf = slices.DeleteFunc(o.shelf, func(x slot) bool {
		expired := x.expires != 0 && x.expires <= now.UnixNano()
		if expired {
			late = append(late, Item{seq: x.seq, body: x.body})
		}
		return expired
	})
	return append(late, o.filter(func(it *Item) bool { return it.Message == nil || !it.Message.expired(now) })...)
}

// count adds a slot of the shelf to what waits.
func (o *outbox) count(x *slot) {
	o.waiting++
	o.bytes += int(x.size)
	if x.expires != 0 {
		o.expiry.note(time.Unix(0, x.expires))
	}
}

// putOnShelf puts a message on the shelf.
func (o *outbox) putOnShelf(x slot) {
	o.shelf = append(o.shelf, x)
	o.count(&x)
}

// shelve leaves the messages to the store. What it does not have, messages of
// QoS 0, is dropped.
func (o *outbox) shelve() (dropped int) {
	old := o.queue[o.head:]
	o.queue, o.head = nil, 0
	for i := range old {
		it := &old[i]
		if it.replay != nil {
			o.park(it.replay)
			continue
		}
		if it.Message == nil {
			continue
		}
		if it.seq == 0 {
			o.waiting--
			o.bytes -= it.Message.size()
			dropped++
			continue
		}
		o.shelf = append(o.shelf, it.slot())
	}
	for _, f := range o.flights {
		if f.seq != 0 {
			f.Message, f.IDs = nil, nil
		}
	}
	return dropped
}

// park puts a replay on the shelf.
func (o *outbox) park(r *replay) {
	o.parked = append(o.parked, r)
	o.shelf = append(o.shelf, slot{body: uint64(len(o.parked) - 1)})
}

func (it *Item) slot() slot {
	x := slot{seq: it.seq, body: it.body, size: int32(it.Message.size()), qos: it.QoS, shared: it.shared != nil}
	if !it.Message.Expires.IsZero() {
		x.expires = it.Message.Expires.UnixNano()
	}
	return x
}

// bare says whether a flight lacks the message that it would have to send again.
func (f *flight) bare() bool { return f.seq != 0 && f.Message == nil && !f.released && !f.void }

// shelved says whether anything has to be read from the store before the queue
// can be sent.
func (o *outbox) shelved() bool {
	for _, f := range o.flights {
		if f.bare() {
			return true
		}
	}
	return len(o.shelf) > 0
}

// unshelve makes a queue of the shelf again, with the entries that the store has.
// missing are those that it should have and has not.
func (o *outbox) unshelve(stored map[uint64]*entry) (missing []uint64) {
	for id, f := range o.flights {
		if !f.bare() {
			continue
		}
		e := stored[f.seq]
		if e == nil || e.Message == nil {
			missing = append(missing, f.seq)
			delete(o.flights, id)
			continue
		}
		qos := f.QoS
		f.Item = e.Item
		f.QoS = qos
	}
	newer := o.queue[o.head:]
	shelf, parked := o.shelf, o.parked
	o.shelf, o.parked, o.queue, o.head = nil, nil, make([]Item, 0, len(shelf)+len(newer)), 0
	for i := range shelf {
		x := &shelf[i]
		if x.seq == 0 {
			o.queue = append(o.queue, Item{replay: parked[x.body]})
			continue
		}
		if e := stored[x.seq]; e != nil && e.Message != nil {
			o.queue = append(o.queue, e.Item)
			continue
		}
		o.waiting--
		o.bytes -= int(x.size)
		missing = append(missing, x.seq)
	}
	o.queue = append(o.queue, newer...)
	return missing
}

// takeOff makes a flight of an item and gives it a packet identifier that no
// other flight has [MQTT-2.2.1-3]. There are fewer flights than identifiers.
func (o *outbox) takeOff(it Item) *flight {
	for {
		if o.lastID++; o.lastID == 0 {
			continue
		}
		if _, used := o.flights[o.lastID]; !used {
			break
		}
	}
	if o.flights == nil {
		o.flights = make(map[uint16]*flight)
	}
	f := o.free
	if f == nil {
		f = new(flight)
	}
	o.free = nil
	o.number++
	*f = flight{Item: it, id: o.lastID, number: o.number, state: flightSent, tried: true}
	if it.Message != nil {
		f.size = it.Message.size()
		o.flying += f.size
	}
	o.flights[f.id] = f
	o.out++
	return f
}

// sentQoS2 are the entries of flights of QoS 2 that were sent, and with them of messages
// that no other client may get.
func (o *outbox) sentQoS2() map[uint64]bool {
	sent := map[uint64]bool{}
	for _, f := range o.flights {
		if f.QoS == 2 && !f.orphan() {
			sent[f.seq] = true
		}
	}
	return sent
}

// land ends a flight. The flight may be used again from the next takeOff on.
func (o *outbox) land(f *flight) {
	delete(o.flights, f.id)
	o.lighten(f)
	if f.state != flightAgain {
		f.state = flightSent
		o.out--
		o.free = f
		return
	}
	o.again = slices.DeleteFunc(o.again, func(g *flight) bool { return g == f })
}

// lighten takes the message of a flight off what flies.
func (o *outbox) lighten(f *flight) {
	o.flying -= f.size
	f.size = 0
}

// resetFlights prepares for a new connection: whatever is in flight has to be sent
// again, in the order of the first time [MQTT-4.4.0-1], [MQTT-4.6.0-1].
func (o *outbox) resetFlights() {
	o.out = 0
	o.again = o.again[:0]
	for id, f := range o.flights {
		if f.void {
			delete(o.flights, id)
			continue
		}
		f.state = flightAgain
		o.again = append(o.again, f)
	}
	slices.SortFunc(o.again, func(a, b *flight) int { return cmp.Compare(a.number, b.number) })
}

// dropRecords drops the records of a reader that left: others get them. The packet
// identifiers of those in flight stay taken until the client acknowledges them or
// the connection ends.
func (o *outbox) dropRecords(r *LogSubscription) {
	o.filter(func(it *Item) bool { return it.Log != r })
	for _, f := range o.flights {
		if f.Log == r {
			f.Item, f.void = Item{QoS: f.QoS}, true
		}
	}
}
