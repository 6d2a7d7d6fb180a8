package event

import "time"

// Effect is one thing that a plugin wants done. The effects of an event are
// committed together or not at all. The implementations are the types of this
// file, as pointers.
type Effect interface{ effect() }

// Emit writes an event to the application's log. The gateway fills in an absent
// id, source and time, and always sets application, device, sender, plugin and
// plugindigest itself. Event.Device names the device that the event is about:
// empty means the sender; any other is accepted only where the registry trusts
// the sender as a gateway for that device, and refuses the whole result otherwise.
type Emit struct{ Event Event }

// Publish sends an MQTT message to devices of the event's application.
type Publish struct {
	// Topics holds the topic, or alternatives in order of preference: the first
	// that the target device's subscriptions match is used.
	Topics []string
	// Device names the one device to send to. Empty sends to every subscriber
	// of the application.
	Device        string
	Payload       []byte
	QoS           byte
	Retain        bool
	ContentType   string
	ResponseTopic string
	Correlation   []byte
	Properties    []Property
	// Expiry is the message expiry interval in whole seconds; 0 means none.
	Expiry time.Duration
	// Answer says that the message answers something that Device said: it goes to the
	// connection that said it, on the first topic where none of its subscriptions
	// match. It is not kept for a device that is away.
	Answer bool
}

// Put writes a key of the plugin's state. TTL 0 keeps it until deleted.
type Put struct {
	Key   string
	Value []byte
	TTL   time.Duration
}

// Delete removes a key of the plugin's state; an absent key is no error.
type Delete struct{ Key string }

// SetTimer asks for a timer event at a time, which comes once; the same key
// replaces an earlier timer of the plugin in the application.
type SetTimer struct {
	Key  string
	At   time.Time
	Data []byte
}

// CancelTimer removes a timer; an absent one is no error.
type CancelTimer struct{ Key string }

// Reply answers the waiting source: the MQTT reason code of a PUBACK, PUBREC or
// SUBACK, or an HTTP status. A code of 0x80 or more on MQTT refuses the event:
// its other effects are dropped.
type Reply struct {
	Code    Code
	Reason  string // MQTT reason string; shown to the client
	Headers []Property
	Payload []byte
	// File is the name of a file of the plugin in the event's application. An HTTP
	// response then has the file's bytes as its body, in place of Payload.
	File string
}

// KeepFile keeps the upload of the event as a file of the plugin in the event's
// application. The gateway deletes an upload that no plugin keeps.
type KeepFile struct {
	Name   string // 1 to 1024 bytes
	Upload string // Upload.ID of the event's transport
	// Append puts the upload behind what the file holds. Otherwise it replaces the file.
	Append bool
	TTL    time.Duration // 0: kept until it is dropped
}

// DropFile deletes a file of the plugin; an absent one is no error.
type DropFile struct{ Name string }

// Allow accepts the credentials of a connect event, within what the operator
// granted the plugin. It is the only effect of the event.
type Allow struct {
	Identity    string // who authenticated; required without a device
	Application string // empty: the event's
	Device      string
	// Publish and Subscribe are the topic filters that the device may use. With
	// none in either it may what it otherwise may.
	Publish   []string
	Subscribe []string
	Expires   time.Time // zero: never
	// Once says that no session outlives the connection, whatever the client asks for.
	Once bool
}

// Deny refuses the credentials of a connect event. Neither text may hold anything of
// them.
type Deny struct {
	// Code says how: BadUserNameOrPassword where the credentials prove nothing, so that
	// the listener's next way of authentication is tried, ServerUnavailable, QuotaExceeded
	// or Banned where nobody gets in for now, and NotAuthorized, which 0 stands for.
	Code   Code
	Reason string // for the operator's log
	Name   string // for the client: member "code" of the problem details of HTTP, 1 to 64 of A-Z, a-z, 0-9, _ and -
}

// Call is an outbound HTTP request whose answer returns as a response event,
// once. The server may see the request more than once, with the same
// Idempotency-Key.
type Call struct {
	ID      string // the subject of the answer
	Method  string
	URL     string
	Headers []Property
	Body    []byte
	Timeout time.Duration // of one attempt; 0: the gateway's
}

// Pass hands an event on to the next matching route. At most 8 hops.
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

// Failure is a plugin's own word that it could not handle an event.
type Failure struct {
	// Retryable asks the gateway to try the same event again later; a permanent
	// failure puts the event into quarantine.
	Retryable bool
	// Code is the MQTT reason code for the source; 0 means 0x99, payload format
	// invalid, for a permanent failure and 0x80 otherwise.
	Code    Code
	Message string
}

// Error makes a Failure an error.
func (f *Failure) Error() string { return f.Message }

// Result is a plugin's answer to one event: effects, or a failure.
type Result struct {
	Effects []Effect
	Failure *Failure // nil: success
}
