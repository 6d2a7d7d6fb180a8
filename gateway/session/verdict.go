package session

import (
	"fmt"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Verdict is the answer to a PUBLISH.
type Verdict struct {
	Code   event.Code
	Reason string
	Status string // what became of a command
	// Undecided ends the connection instead of an answer, so that the client sends the message
	// again.
	Undecided bool
}

// Fanout is what became of a message for subscribers.
type Fanout struct {
	Matched    bool           // there are subscribers
	Best       stage.Delivery // the best that happened for any of them
	Lost       int            // subscribers without room
	Unretained bool           // the limits did not allow to retain it
}

// noteFanout puts into the verdict what became of the message. If all receivers were full, the
// message is refused.
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
