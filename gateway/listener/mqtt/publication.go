package mqtt

import (
	"time"

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
