package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Publication is a message of a client on its way to subscribers. What it changes in sessions is
// committed together with the effects of its event, or alone.
type Publication struct {
	Client  *Client
	Message *Message // for the subscribers; nil: for none
	Arrival *Arrival // of a message of QoS 2; nil for others, and for wills
	Will    *Will    // the will, if the message is one

	// What was prepared for its commit, and what came of that.
	reserved   reservations
	alone      bool  // CommitAlone commits it
	unretained bool  // the limits do not allow to retain it
	hits       *hits // its receivers, if Committed has found them
}

// Prepare implements Companion: it adds to the batch what the message changes in sessions.
func (x *Publication) Prepare(b *store.Batch) {
	now := time.Now()
	if x.Message != nil {
		x.reserved.prepare(x.Client.space, x.Message, b, now)
		if x.Message.retain {
			x.unretained = !x.Client.space.prepareRetained(x.Message, b, now)
		}
	}
	if x.Arrival != nil {
		x.Client.Session.addToCommit(x.Arrival, b)
	}
	if x.Will != nil && x.Will.seq != 0 {
		b.Deletes = append(b.Deletes, x.Will.key())
	}
}

// Withdraw implements Companion.
func (x *Publication) Withdraw() {
	x.reserved.release()
	x.unretained = false
	if x.Arrival != nil {
		x.Arrival.marked = false
	}
}

// Committed implements Companion. Callbacks come in the order of the commits, and messages are
// retained here, so that memory and store agree on the last one.
func (x *Publication) Committed() {
	if x.Message == nil || !x.Message.retain || x.Client.sessions.journal == nil {
		return
	}
	sp := x.Client.space
	x.hits = sp.lend()
	keep := x.Message
	if x.unretained {
		keep = nil
	}
	sp.collect(x.Message.Topic, x.Message.QoS, keep, x.hits, &x.reserved, time.Now())
}

// Durable says whether the message can change anything in the store.
func (x *Publication) Durable() bool {
	return x.Client.sessions.journal != nil && (x.Message != nil || x.Arrival != nil || x.Will != nil)
}

// CommitAlone commits what a message changes in sessions if no route takes it. done is called when
// that is durable, or with the error. It is called at once if there is nothing to commit.
func (x *Publication) CommitAlone(done func(error)) {
	var b store.Batch
	x.Prepare(&b)
	if len(b.Puts)+len(b.Deletes) == 0 {
		x.Committed()
		done(nil)
		return
	}
	x.alone = true
	x.Client.Session.behind.Add(1)
	over := func(err error) {
		if err != nil {
			x.Withdraw()
		} else {
			x.Committed()
		}
		done(err)
	}
	if err := x.Client.sessions.journal.store.Commit(&b, over); err != nil {
		over(err)
	}
}

// publish sends the message to its receivers.
func (x *Publication) publish(now time.Time) (f Fanout) {
	sp := x.Client.space
	if h := x.hits; h != nil {
		x.hits = nil
		defer sp.giveBack(h)
		f = Fanout{Matched: !h.none(), Best: sp.fanOut(x.Message, h, &x.reserved, now)}
		f.Lost = x.reserved.lost
	} else {
		f = sp.publish(x.Message, &x.reserved, now)
	}
	f.Unretained = x.unretained
	return f
}

// Finish acts on the verdict: subscribers get the message if it was accepted, and v then says what
// became of it.
func (x *Publication) Finish(v *Verdict) {
	if x.Message != nil && !v.Code.Refused() {
		v.noteFanout(x.publish(time.Now()))
	}
	x.Message = nil
	if x.Will != nil && v.Code.Refused() && !v.Undecided {
		x.Will.Drop()
	}
	if x.alone {
		x.alone = false
		x.Client.Session.behind.Add(-1)
	}
}

// Open says whether anything has to be done when the verdict is known.
func (x *Publication) Open() bool { return x.Message != nil || x.Arrival != nil || x.reserved.late }

// Late says that a session got its entry only after the commit, so that the acknowledgement has to
// wait for WhenStored. It returns true only once.
func (x *Publication) Late() bool {
	late := x.reserved.late
	x.reserved.late = false
	return late
}

// WhenStored calls done when everything noted in the journal is durable, or with the error.
func (x *Publication) WhenStored(done func(error)) { x.Client.sessions.journal.commit(done) }

// Unrouted takes a message that no route takes, in an application with messaging. If x is nil, the
// message was sent to the subscribers, and v is its verdict. Otherwise the message has to be
// committed first, or has to wait for an earlier one that is being committed.
func (c *Client) Unrouted(p *packet.Publish, now time.Time) (x *Publication, v Verdict) {
	s := c.Session
	if s.server.journal == nil ||
		!p.Retain && !(p.QoS == 2 && s.stored.Load()) && s.behind.Load() == 0 && !c.space.stores(p.Topic, p.QoS) {
		return c.publishNow(p, now)
	}
	if !p.Retain {
		v.Code = event.NoMatchingSubscribers
	}
	return &Publication{Client: c, Message: NewMessage(p, now, c)}, v
}

// publishNow sends a message to the subscribers without a commit. If a stored session subscribed
// meanwhile, its entry is not durable yet: x is then the publication that waits for it.
func (c *Client) publishNow(p *packet.Publish, now time.Time) (x *Publication, v Verdict) {
	f, late := c.space.publishPacket(p, c, now)
	if !p.Retain {
		v.Code = event.NoMatchingSubscribers
	}
	if v.noteFanout(f); late && !v.Code.Refused() {
		x = &Publication{Client: c, reserved: reservations{late: true}}
	}
	return x, v
}
