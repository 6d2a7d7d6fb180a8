package mqtt

import "tributary.io/gateway/stage"

// verdict is what a PUBLISH is answered with.
type verdict struct {
	code   stage.Code
	reason string
	status string // of a command: what became of it
	// undecided ends the connection instead of answering, so that the client
	// sends the message again.
	undecided bool
}
