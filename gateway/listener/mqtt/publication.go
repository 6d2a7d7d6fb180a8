package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

// publication is a message of a client on its way to the sessions that subscribed to its
// topic. What it means to them is committed with the effects of its event, or alone.
type publication struct {
	from    *Client
	m       *message // to be sent to subscribers; nil: to nobody
	arrival *arrival // of a message of QoS 2 that came over a connection; else nil
	will    *will    // the will that it is

	// What was prepared for its commit, and became of it.
	booked bookings
	alone  bool  // it has a commit of its own
	unkept bool  // the limits do not allow to retain it
	hits   *hits // its receivers, if they were found when it became durable
}

// Prepare implements Companion: what a message means to sessions is committed with
// its effects.
func (x *publication) Prepare(b *store.Batch) {
	now := time.Now()
	if x.m != nil {
		x.booked.prepare(x.from.space, x.m, b, now)
		if x.m.retain {
			x.unkept = !x.from.space.prepareRetained(x.m, b, now)
		}
	}
	if x.arrival != nil {
		x.from.session.mark(x.arrival, b)
	}
	if x.will != nil && x.will.seq != 0 {
		b.Deletes = append(b.Deletes, x.will.key())
	}
}

// Withdraw implements Companion.
func (x *publication) Withdraw() {
	x.booked.withdraw()
	x.unkept = false
	if x.arrival != nil {
		x.arrival.marked = false
	}
}

// Committed implements Companion. It is called in the order of the commits: in
// that order messages are retained, so that the one that counts is the same as in
// the store.
func (x *publication) Committed() {
	if x.m == nil || !x.m.retain || x.from.sessions.journal == nil {
		return
	}
	sp := x.from.space
	x.hits = sp.lend()
	keep := x.m
	if x.unkept {
		keep = nil
	}
	sp.collect(x.m.topic, x.m.qos, keep, x.hits, &x.booked, time.Now())
}

// durable says whether anything of it can have to be committed.
func (x *publication) durable() bool {
	return x.from.sessions.journal != nil && (x.m != nil || x.arrival != nil || x.will != nil)
}

// commitAlone commits what a message means to sessions that no route takes. done is called
// when that is durable, or with the error: at once if there is nothing to commit.
func (x *publication) commitAlone(done func(error)) {
	var b store.Batch
	x.Prepare(&b)
	if len(b.Puts)+len(b.Deletes) == 0 {
		x.Committed()
		done(nil)
		return
	}
	x.alone = true
	x.from.session.behind.Add(1)
	over := func(err error) {
		if err != nil {
			x.Withdraw()
		} else {
			x.Committed()
		}
		done(err)
	}
	if err := x.from.sessions.journal.store.Commit(&b, over); err != nil {
		over(err)
	}
}

// publish sends the message to its receivers, and says whether there was any.
func (x *publication) publish(now time.Time) (matched bool) {
	sp := x.from.space
	if h := x.hits; h != nil {
		x.hits = nil
		defer sp.giveBack(h)
		sp.send(x.m, h, &x.booked, now)
		return !h.none()
	}
	_, matched = sp.publish(x.m, &x.booked, now)
	return matched
}

// finish does what comes of the outcome of a message: subscribers get it if it was
// accepted. It says whether any had subscribed.
func (x *publication) finish(accepted, undecided bool) (matched bool) {
	if x.m != nil && accepted {
		matched = x.publish(time.Now())
	}
	x.m = nil
	if x.will != nil && !accepted && !undecided {
		x.will.drop()
	}
	if x.alone {
		x.alone = false
		x.from.session.behind.Add(-1)
	}
	return matched
}

// open says whether anything is to be done about it once its outcome is known.
func (x *publication) open() bool { return x.m != nil || x.arrival != nil || x.booked.late }

// late says, once, that a session got the message in the store only after its commit:
// nobody is told of the message before that is durable.
func (x *publication) late() bool {
	late := x.booked.late
	x.booked.late = false
	return late
}

// whenStored calls done when all that was noted of sessions is durable, or with the error.
func (x *publication) whenStored(done func(error)) { x.from.sessions.journal.commit(done) }

// unrouted takes a message that no route takes, where devices get what others publish. It is sent to the subscribers at once and
// answered with the verdict, or returned, if it has to be stored before it is answered, or
// comes behind one that has.
func (who *Client) unrouted(p *packet.Publish, now time.Time) (x *publication, v verdict) {
	s := who.session
	if s.server.journal == nil ||
		!p.Retain && !(p.QoS == 2 && s.keeps.Load()) && s.behind.Load() == 0 && !who.space.stores(p.Topic, p.QoS) {
		return who.direct(p, now)
	}
	m := newMessage(p, now, who)
	switch {
	case !p.Retain:
		v.code = stage.NoMatchingSubscribers
	case !who.space.retainable(m, now):
		return nil, verdict{code: stage.QuotaExceeded, reason: "the application has too many retained messages"}
	}
	return &publication{from: who, m: m}, v
}

// direct sends a message straight to the subscribers. One that a stored session got at this
// very moment is returned: it is late.
func (who *Client) direct(p *packet.Publish, now time.Time) (x *publication, v verdict) {
	matched, kept, late := who.space.publishPacket(p, who, now)
	switch {
	case !kept:
		v = verdict{code: stage.QuotaExceeded, reason: "the application has too many retained messages"}
	case !matched && !p.Retain:
		v.code = stage.NoMatchingSubscribers
	case late:
		x = &publication{from: who, booked: bookings{late: true}}
	}
	return x, v
}
