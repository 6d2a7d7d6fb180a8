package session

import (
	"fmt"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Verdict is what a PUBLISH is answered with.
type Verdict struct {
	Code   event.Code
	Reason string
	Status string // of a command: what became of it
	// Undecided ends the connection instead of answering, so that the client
	// sends the message again.
	Undecided bool
}

// Fanout says what became of a message that went to subscribers.
type Fanout struct {
	Matched    bool           // somebody had subscribed
	Best       stage.Delivery // the best that happened
	Lost       int            // subscribers that it did not reach for want of room
	Unretained bool           // the limits did not allow to retain it
}

// noteFanout notes what became of a message in the verdict on it. A message that nobody got, and
// that nobody will, for want of room is refused.
func (v *Verdict) noteFanout(f Fanout) {
	if f.Matched && v.Code == event.NoMatchingSubscribers {
		v.Code = event.Success
		if f.Lost > 0 && f.Best == stage.NoDevice {
			v.Code = event.QuotaExceeded
		}
	}
	why := ""
	switch {
	case f.Unretained && !f.Matched:
		v.Code, why = event.QuotaExceeded, "it is not retained: the application has too many retained messages"
	case f.Unretained:
		why = "it was sent, but is not retained: the application has too many retained messages"
	case f.Lost > 0 && f.Best == stage.NoDevice:
		why = "it reached none of the subscribers: their queues are full"
	case f.Lost > 0:
		why = fmt.Sprintf("it did not reach %d of the subscribers, whose queues are full", f.Lost)
	}
	if v.Reason == "" {
		v.Reason = why
	}
}
