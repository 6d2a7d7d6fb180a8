package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Publication is a message of a client on its way to the sessions that subscribed to its
// topic. What it means to them is committed with the effects of its event, or alone.
type Publication struct {
	Client  *Client
	Message *Message // to be sent to subscribers; nil: to nobody
	Arrival *Arrival // of a message of QoS 2 that came over a connection; else nil
	Will    *Will    // the will that it is

	// What was prepared for its commit, and became of it.
	reserved   reservations
	alone      bool  // it has a commit of its own
	unretained bool  // the limits do not allow to retain it
	hits       *hits // its receivers, if they were found when it became durable
}

// Prepare implements Companion: what a message means to sessions is committed with
// its effects.
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

// Committed implements Companion. It is called in the order of the commits: in
// that order messages are retained, so that the one that counts is the same as in
// the store.
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

// Durable says whether anything of it can have to be committed.
func (x *Publication) Durable() bool {
	return x.Client.sessions.journal != nil && (x.Message != nil || x.Arrival != nil || x.Will != nil)
}

// CommitAlone commits what a message means to sessions that no route takes. done is called
// when that is durable, or with the error: at once if there is nothing to commit.
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

// Finish does what comes of the verdict on a message: subscribers get it if it was
// accepted, and the verdict says what became of it.
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

// Open says whether anything is to be done about it once its outcome is known.
func (x *Publication) Open() bool { return x.Message != nil || x.Arrival != nil || x.reserved.late }

// Late says, once, that a session got the message in the store only after its commit:
// nobody is told of the message before that is durable.
func (x *Publication) Late() bool {
	late := x.reserved.late
	x.reserved.late = false
	return late
}

// WhenStored calls done when all that was noted of sessions is durable, or with the error.
func (x *Publication) WhenStored(done func(error)) { x.Client.sessions.journal.commit(done) }

// Unrouted takes a message that no route takes, where devices get what others publish. It is sent to the subscribers at once and
// answered with the verdict, or returned, if it has to be stored before it is answered, or
// comes behind one that has.
func (who *Client) Unrouted(p *packet.Publish, now time.Time) (x *Publication, v Verdict) {
	s := who.Session
	if s.server.journal == nil ||
		!p.Retain && !(p.QoS == 2 && s.stored.Load()) && s.behind.Load() == 0 && !who.space.stores(p.Topic, p.QoS) {
		return who.publishNow(p, now)
	}
	if !p.Retain {
		v.Code = event.NoMatchingSubscribers
	}
	return &Publication{Client: who, Message: NewMessage(p, now, who)}, v
}

// publishNow sends a message straight to the subscribers. One that a stored session got at this
// very moment is returned: it is late.
func (who *Client) publishNow(p *packet.Publish, now time.Time) (x *Publication, v Verdict) {
	f, late := who.space.publishPacket(p, who, now)
	if !p.Retain {
		v.Code = event.NoMatchingSubscribers
	}
	if v.noteFanout(f); late && !v.Code.Refused() {
		x = &Publication{Client: who, reserved: reservations{late: true}}
	}
	return x, v
}
