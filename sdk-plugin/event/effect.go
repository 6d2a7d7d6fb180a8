package event

import "time"

// Effect is one thing that a plugin wants the gateway to do. The gateway commits all effects
// of an event together or none. Pointers to the types of this file implement it.
type Effect interface{ effect() }

// Emit writes an event to the application's log. The gateway fills in an absent id, source
// and time, and always sets application, sender, plugin and plugindigest itself. Event.Device
// names the device that the event is about; empty means the sender. The gateway accepts
// another device only if the registry trusts the sender as a gateway for it; otherwise it
// refuses the whole result.
type Emit struct{ Event Event }

// Publish sends an MQTT message to devices of the event's application.
type Publish struct {
	// Topics holds the topic, or several in order of preference: the first that a
	// subscription of the target device matches is used.
	Topics []string
	// Device is the one device to send to. If it is empty, the message goes to every
	// subscriber of the application.
	Device        string
	Payload       []byte
	QoS           byte
	Retain        bool
	ContentType   string
	ResponseTopic string
	Correlation   []byte
	Properties    []Property
	// Expiry is the message expiry interval, in whole seconds; 0 means none.
	Expiry time.Duration
	// Answer means that the message answers something that Device sent. It goes to the
	// connection that sent it, under the first of Topics if none of the connection's
	// subscriptions matches any. It is not kept for a device that is offline.
	Answer bool
}

// Put writes a key of the plugin's state. With TTL 0 it stays until it is deleted.
type Put struct {
	Key   string
	Value []byte
	TTL   time.Duration
}

// Delete removes a key of the plugin's state. An absent key is no error.
type Delete struct{ Key string }

// SetTimer asks for one timer event at a given time. It replaces the timer that the plugin
// has under the same key in the application.
type SetTimer struct {
	Key  string
	At   time.Time
	Data []byte
}

// CancelTimer removes a timer. An absent timer is no error.
type CancelTimer struct{ Key string }

// Reply answers the source of the event: Code is the reason code of a PUBACK, PUBREC or
// SUBACK, or an HTTP status. A reason code of 0x80 or more refuses the event, and its other
// effects are dropped.
type Reply struct {
	Code    Code
	Reason  string // MQTT reason string, which the client sees
	Headers []Property
	Payload []byte
	// File is the name of a file of the plugin in the event's application. If it is set,
	// the body of the HTTP response is the file and not Payload.
	File string
}

// KeepFile keeps the upload of the event as a file of the plugin in the event's
// application. The gateway deletes an upload that no plugin keeps.
type KeepFile struct {
	Name   string // 1 to 1024 bytes
	Upload string // Upload.ID of the event's transport
	// Append adds the upload to the end of the file. Otherwise it replaces the file.
	Append bool
	TTL    time.Duration // 0: kept until it is dropped
}

// DropFile deletes a file of the plugin. An absent file is no error.
type DropFile struct{ Name string }

// Allow accepts the credentials of a connect event, within the plugin's grant. It is the
// only effect of the event.
type Allow struct {
	Identity    string // name of the authenticated party; required if Device is empty
	Application string // empty: that of the event
	Device      string
	// Publish and Subscribe are the topic filters that the device may use. If both are
	// empty, those of the registry apply.
	Publish   []string
	Subscribe []string
	Expires   time.Time // zero: never
	// Once means that the session ends with the connection, whatever the client asks for.
	Once bool
}

// Deny refuses the credentials of a connect event. Reason and Name must not contain any of
// them.
type Deny struct {
	// Code is BadUserNameOrPassword if the credentials are unknown or wrong: then the
	// listener tries its next authentication method. ServerUnavailable, QuotaExceeded,
	// Banned and NotAuthorized refuse the connection at once. 0 means NotAuthorized.
	Code   Code
	Reason string // for the operator's log
	// Name is for the client, as the member "code" of the HTTP problem details: 1 to 64 of
	// A-Z, a-z, 0-9, _ and -.
	Name string
}

// Call is an outbound HTTP request. Its response comes to the plugin as one response event.
// The server may get the request more than once, with the same Idempotency-Key.
type Call struct {
	ID      string // the subject of the response event
	Method  string
	URL     string
	Headers []Property
	Body    []byte
	Timeout time.Duration // of one attempt; 0: the default of the gateway
}

// Pass hands an event on to the next matching route. An event is passed on at most 8 times.
type Pass struct{ Event Event }

func (*Emit) effect()        {}
func (*Publish) effect()     {}
func (*Put) effect()         {}
func (*Delete) effect()      {}
func (*SetTimer) effect()    {}
func (*CancelTimer) effect() {}
func (*Reply) effect()       {}
func (*Allow) effect()       {}
func (*Deny) effect()        {}
func (*Call) effect()        {}
func (*Pass) effect()        {}
func (*KeepFile) effect()    {}
func (*DropFile) effect()    {}

// Failure is the result of a plugin that could not handle an event.
type Failure struct {
	// Retryable asks the gateway to try the same event again later. If it is false, the
	// event goes into quarantine.
	Retryable bool
	// Code is the MQTT reason code for the source. 0 means PayloadFormatInvalid (0x99), or
	// UnspecifiedError (0x80) if Retryable is set.
	Code    Code
	Message string
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// Result is what a plugin returns for one event: effects, or a failure.
type Result struct {
	Effects []Effect
	Failure *Failure // nil: success
}
