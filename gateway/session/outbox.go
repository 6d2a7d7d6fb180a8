package session

import (
	"cmp"
	"slices"
	"time"

	"tributary.io/gateway/stage"
)

// Item is something on its way to one session: a message, a record of a log, or a replay.
type Item struct {
	Message *Message
	Log     *LogSubscription // the log of a record; nil for a message
	Record  stage.Record     // a record as the consumer stage delivered it
	IDs     []uint32         // subscription identifiers
	shared  *subscription    // the shared subscription that the message came by, if any
	replay  *replay          // retained messages of a new subscription; Message and Log are nil
	QoS     byte
	Retain  bool
	prompt  bool // it is sent at once, so it cannot have expired [MQTT-3.3.2-5]

	// The message's number among the session's entries in the store (0: the store does not have it),
	// and the number of its body, if sessions share the body.
	seq, body uint64
}

// flightState is the state of a flight on the present connection.
type flightState uint8

const (
	flightAgain flightState = iota // it has to be sent again
	flightHeld                     // it is sent when its packet identifier is durable
	flightSent
)

// flight is an item of QoS 1 or 2 with its packet identifier.
type flight struct {
	Item
	id       uint16
	number   uint64 // flights are sent in this order
	state    flightState
	released bool // QoS 2: PUBREC came, so that only PUBREL is sent again
	tried    bool // it was sent, on this or an earlier connection
	bound    bool // while restoring: its entry was found
	void     bool // there is nothing left to send again
	size     int  // bytes that outbox.flying counts
}

// outbox is what a session has to send: a queue of items that were never sent, and the flights,
// which await their acknowledgement. It knows no connection and no lock; the session's mu guards it.
// The packet identifiers are the server's own; those of the client are in session.incoming.
type outbox struct {
	queue   []Item // the queue begins at head
	head    int
	waiting int // messages in the queue; records do not count, because their log holds them
	bytes   int // size of these messages
	expiry  expiry

	// reserved counts messages whose commit is under way. They hold a place in the queue.
	reserved, reservedBytes int
	// shelf is the part of the queue that only the store has, while the client is away. It comes
	// before queue.
	shelf  []slot
	parked []*replay // the replays on the shelf

	flights map[uint16]*flight
	again   []*flight // to be sent again on this connection, before the queue
	out     int       // flights that were sent on this connection
	flying  int       // bytes of messages in flight
	lastID  uint16
	number  uint64
	free    *flight // one that may be used again
}

// slot is a message on the shelf. If seq is 0, it is the replay parked[body] instead.
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

// peek returns the first item. The queue must not be empty.
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

// filter drops the items of the queue for which want returns false, and returns them.
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

// purge drops expired messages [MQTT-3.3.2-5], and returns them.
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

// count counts a slot of the shelf as waiting.
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

// shelve leaves the messages to the store. Messages of QoS 0 that the store does not have are
// dropped.
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

// bare says whether a flight lacks the message that would have to be sent again.
func (f *flight) bare() bool { return f.seq != 0 && f.Message == nil && !f.released && !f.void }

// shelved says whether something has to be read from the store before the queue can be sent.
func (o *outbox) shelved() bool {
	for _, f := range o.flights {
		if f.bare() {
			return true
		}
	}
	return len(o.shelf) > 0
}

// unshelve turns the shelf back into a queue, with the entries from the store. missing are entries
// that the store should have and does not.
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

// takeOff makes a flight of an item, with a packet identifier that no other flight has
// [MQTT-2.2.1-3]. There are always fewer flights than identifiers.
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

// sentQoS2 returns the entries of flights of QoS 2 that were sent. No other client may get these
// messages.
func (o *outbox) sentQoS2() map[uint64]bool {
	sent := map[uint64]bool{}
	for _, f := range o.flights {
		if f.QoS == 2 && !f.orphan() {
			sent[f.seq] = true
		}
	}
	return sent
}

// land ends a flight. The next takeOff may use f again.
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

// lighten stops counting the message of a flight as flying.
func (o *outbox) lighten(f *flight) {
	o.flying -= f.size
	f.size = 0
}

// resetFlights prepares the flights for a new connection: all have to be sent again in their first
// order [MQTT-4.4.0-1], [MQTT-4.6.0-1].
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

// dropRecords drops the records of a subscription that has left its log. Packet identifiers in
// flight stay in use until the client acknowledges them or the connection ends.
func (o *outbox) dropRecords(r *LogSubscription) {
	o.filter(func(it *Item) bool { return it.Log != r })
	for _, f := range o.flights {
		if f.Log == r {
			f.Item, f.void = Item{QoS: f.QoS}, true
		}
	}
}
