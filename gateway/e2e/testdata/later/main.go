// A plugin that does what its messages say, one thing a line: "timer <key> <ms>"
// sets a timer, "call <id> <url>" makes an HTTP call. It writes an event to the log
// for each message, timer and answer.
package main

import (
	"strconv"
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(handle)

func main() {}

func handle(r *sdk.Request) error {
	switch r.Event.Type {
	case event.TypeTimer:
		return tell(r, "timer "+r.Event.Subject+" "+string(r.Event.Data))
	case event.TypeResponse:
		status, problem := r.Status()
		return tell(r, "answer "+r.Event.Subject+" "+strconv.Itoa(status)+" "+string(r.Event.Data)+problem)
	case event.TypePublish:
	default:
		return nil
	}
	for line := range strings.Lines(string(r.Event.Data)) {
		words := strings.Fields(line)
		if len(words) != 3 {
			return sdk.Permanent("not three words: " + line)
		}
		switch words[0] {
		case "timer":
			ms, err := strconv.Atoi(words[2])
			if err != nil {
				return err
			}
			r.SetTimer(words[1], r.Now.Add(time.Duration(ms)*time.Millisecond), []byte("data-"+words[1]))
		case "call":
			r.Call(event.Call{ID: words[1], Method: "POST", URL: words[2], Body: []byte(words[1]), Timeout: 2 * time.Second})
		}
	}
	return tell(r, "message "+r.Event.Subject)
}

func tell(r *sdk.Request, what string) error {
	r.Emit(event.Event{Type: "test.later", Subject: what})
	return nil
}
