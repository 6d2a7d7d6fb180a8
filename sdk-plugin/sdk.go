// Package sdk is the API for authors of plugins: the event to handle, the effects to answer
// with, and JSON in and out, all without allocation. Built for GOOS=wasip1 it speaks ABI.md
// with the gateway; on every platform Run calls a handler in a test. Plugins and examples
// import it; the gateway does not.
package sdk

import "tributary.io/sdk-plugin/event"

// Handler handles one event: it looks at the request, adds effects to it and
// returns nil, or returns an error, which drops the effects: Permanent, Retry, a
// *event.Failure, or any other error, which counts as permanent.
//
// It is a pure function of what the request shows: the gateway may call it again
// for the same event, and keeps no memory of a call that broke. So it keeps
// nothing between calls either (that is what state is for). A panic ends the
// event like a permanent failure: the gateway logs it with its trace, restores
// the plugin's memory and quarantines the event.
type Handler func(r *Request) error

// Permanent is the error of a handler that can never make sense of the event.
// The event goes into quarantine with the message; an MQTT 5 sender hears 0x99,
// payload format invalid.
func Permanent(message string) error { return &event.Failure{Message: message} }

// Retry is the error of a handler that asks to be called again later with the
// same event.
func Retry(message string) error { return &event.Failure{Retryable: true, Message: message} }

// Level is the severity of a log line.
type Level int32

// The levels of Log.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

// failure turns a handler's error into what the gateway is told.
func failure(err error) *event.Failure {
	if f, ok := err.(*event.Failure); ok {
		return f
	}
	return &event.Failure{Message: err.Error()}
}
