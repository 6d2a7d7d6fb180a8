// Package stage holds the values that pass between the gateway's stages
// (listeners, router, sessions, consumer), so that no stage has to know another. Every stage
// may import it; it does nothing by itself.
package stage

import (
	"strconv"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Error is an error that carries the reason code for the source.
type Error struct {
	Code   event.Code
	Reason string // what was wrong and what to do; safe to show to the client
	Name   string // what a program may tell the error by, in the dialect of a plugin; empty: nothing
	// Gone says, when a grant is renewed, that its principal exists no more, so that
	// nothing is kept for it any longer.
	Gone bool
}

func (e *Error) Error() string { return e.Reason }

// Delivery says what became of a message to a device.
type Delivery uint8

// Deliveries, from worst to best.
const (
	NoDevice  Delivery = iota // no connection and no persistent session takes it
	Queued                    // a persistent session holds it until the device returns
	Delivered                 // handed to a connection of the device or its gateway
)

// String returns the word that a command's publisher sees.
func (d Delivery) String() string {
	switch d {
	case Delivered:
		return "delivered"
	case Queued:
		return "queued"
	}
	return "no-such-device"
}

// Companion is what a listener wants to become durable in the same commit as the
// effects of an event that it submits.
type Companion interface {
	// Prepare adds to the batch. It is called before each attempt to commit an event that
	// was accepted, by a plugin or because no route takes it, and does not block.
	Prepare(b *store.Batch)
	// Committed says that what was prepared last is durable: in the order of the
	// commits, before Submit's done is called. It does not block.
	Committed()
	// Withdraw undoes a Prepare whose commit did not come about.
	Withdraw()
}

// Prepared is a message to devices whose commit is under way. One of its methods
// is called, once; neither blocks.
type Prepared interface {
	// Deliver is called after the commit. late says that something that it did is durable only
	// with the next commit, so an answer that promises it has to wait for that.
	Deliver() (d Delivery, late bool)
	Withdraw() // the commit did not come about
}

// Outcome is the router's answer for one inbound event, once its effects are durable or it was
// refused.
type Outcome struct {
	Code     event.Code
	Reason   string       // for the client; empty when there is nothing to say
	Reply    *event.Reply // the plugin's reply, if it gave one
	Plugin   string       // which one replied
	Delivery Delivery     // of the best publish effect; meaningful for commands
	// Unavailable says that nothing was decided, because the store failed or the
	// gateway is stopping. The source must not be answered: its listener ends the
	// connection, so that the source sends the message again.
	Unavailable bool
	// Index is which event of a batch the refusal is about.
	Index int
	// Overtaken says that an event of SubmitDue no longer stood for anything, and
	// that nothing was done.
	Overtaken bool
}

// Start says where a new group or subscription begins to read.
type Start struct {
	Kind   StartKind
	Offset uint64    // for StartOffset
	Time   time.Time // for StartTime: the first event that was committed then or later
}

// StartKind is the way a Start is given.
type StartKind uint8

// The kinds of Start; user property stream-offset in parentheses.
const (
	StartDefault StartKind = iota // a durable group resumes, anything new starts at the end
	StartFirst                    // (first) the oldest event that is kept
	StartLast                     // (last) the newest event
	StartNext                     // (next) only events from now on
	StartResume                   // (resume) where the group stopped, made durable
	StartOffset                   // (<offset>)
	StartTime                     // (<RFC 3339 time>)
)

// ParseStart reads a Start as consumers write it: first, last, next, resume, an offset, or an
// RFC 3339 time.
func ParseStart(s string) (start Start, ok bool) {
	switch s {
	case "first":
		return Start{Kind: StartFirst}, true
	case "last":
		return Start{Kind: StartLast}, true
	case "next":
		return Start{Kind: StartNext}, true
	case "resume":
		return Start{Kind: StartResume}, true
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return Start{Kind: StartOffset, Offset: n}, true
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return Start{Kind: StartTime, Time: t}, true
	}
	return Start{}, false
}

// Subscription is a consumer's wish to read an application's log.
type Subscription struct {
	Application string
	// Quarantine reads the application's quarantine instead of its events.
	Quarantine bool
	// Group names the durable group that the subscription joins; empty means a
	// reader of its own that ends with it. Internal prefixes: "s." for $share
	// groups, "c." for groups of one client id.
	Group string
	Start Start
	// Window is the greatest number of records that may be out at once; the
	// receiver's credit. At least 1.
	Window int
	// Bytes bounds the records that are out at once by their size, beside one of any
	// size; 0: the window alone counts.
	Bytes int
	// Filter chooses the records that the subscription gets; nil: all. All members of a group
	// have the same: what none of them wants is done with, and the group's position
	// passes it.
	Filter Filter
}

// Filter chooses records of a log. It is safe for concurrent use.
type Filter interface {
	// Match says whether a stored event is chosen.
	Match(record []byte) bool
	// String is the filter as its consumer wrote it. Equal filters have equal texts.
	String() string
}

// Record is one event of a log as it is stored. Event is the protobuf form (codec.ParseEvent).
// It is shared and must not be changed.
type Record struct {
	Offset uint64
	Event  []byte
}

// Membership is one reader's place in a group. Its methods are safe for
// concurrent use and never block on the receiver.
type Membership interface {
	// Ack says that the receiver is done with a record.
	Ack(offset uint64)
	// Leave gives every record that is out and not acknowledged to the other
	// members at once. Later calls do nothing.
	Leave()
}
