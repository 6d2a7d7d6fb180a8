package session

import "tributary.io/gateway/stage"

// verdict is what a PUBLISH is answered with.
type Verdict struct {
	Code   stage.Code
	Reason string
	Status string // of a command: what became of it
	// undecided ends the connection instead of answering, so that the client
	// sends the message again.
	Undecided bool
}
