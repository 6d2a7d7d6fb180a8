// Package event is the vocabulary that the gateway and its plugins share: the
// event, what travelled beside it, the effects that a plugin answers with, and the
// codes that a source is told. Package codec has their forms on the wire. It imports the
// standard library only, builds for GOOS=wasip1, and everyone may import it.
package event

import "time"

// SpecVersion is the CloudEvents version of every event on the wire.
const SpecVersion = "1.0"

// Types of the events that the gateway hands to a plugin.
const (
	TypeConnect    = "io.tributary.connect.v1"    // credentials to judge
	TypePublish    = "io.tributary.publish.v1"    // a device's message
	TypeSubscribe  = "io.tributary.subscribe.v1"  // a device asks for a topic filter
	TypeConnection = "io.tributary.connection.v1" // a device went online or offline
	TypeRequest    = "io.tributary.request.v1"    // an HTTP or CoAP request
	TypeCommand    = "io.tributary.command.v1"    // an application's command to a device
	TypeTimer      = "io.tributary.timer.v1"      // a timer that the plugin set
	TypeResponse   = "io.tributary.response.v1"   // the answer to an outbound HTTP call
)

// Kind is the CloudEvents type of an attribute value (spec.md, Type System).
type Kind uint8

// The kinds of attribute values.
const (
	String Kind = iota
	Boolean
	Integer
	Binary
	URI
	URIRef
	Timestamp
)

// Attribute is one extension attribute. Value is the canonical string form of
// its Kind: "true", "42", base64 for Binary, RFC 3339 for Timestamp.
type Attribute struct {
	Name  string
	Kind  Kind
	Value string
}

// Event is one CloudEvent. The zero value of a field means that the attribute
// is absent. An Event is not safe for concurrent change; stages hand it on by
// value or give it up.
type Event struct {
	ID              string
	Source          string
	Type            string
	Subject         string
	Time            time.Time // zero: absent; UTC on the wire
	TimeText        string    // see SetTime
	DataContentType string    // RFC 2046 media type
	DataSchema      string    // absolute URI

	// Application, Device and Sender are the extension attributes of the same
	// names. The gateway sets them from the authenticated identity and discards
	// what a device or plugin claims there. Sender is the gateway device that
	// spoke for Device; it equals Device when a device speaks for itself.
	Application string
	Device      string
	Sender      string

	// Extensions holds every other extension attribute, in order, names unique
	// and made of [a-z0-9].
	Extensions []Attribute

	// Data is the payload; nil means that there is none. Text says that it is
	// text in UTF-8. The JSON format carries it as a JSON value where the media
	// type is JSON, as a string where it is text of another media type, and in
	// base64 otherwise, also when there is no media type.
	Data []byte
	Text bool
}

// Extension returns the value of the named extension attribute in Extensions.
func (e *Event) Extension(name string) (string, bool) {
	for i := range e.Extensions {
		if e.Extensions[i].Name == name {
			return e.Extensions[i].Value, true
		}
	}
	return "", false
}

// SetExtension sets the named string extension, replacing one that is there.
func (e *Event) SetExtension(name, value string) {
	for i := range e.Extensions {
		if e.Extensions[i].Name == name {
			e.Extensions[i] = Attribute{Name: name, Value: value}
			return
		}
	}
	e.Extensions = append(e.Extensions, Attribute{Name: name, Value: value})
}

// Property is an MQTT user property or an HTTP header. Order and duplicates
// are kept.
type Property struct{ Name, Value string }

// Transport is what travelled beside an inbound event: facts about the message
// and the connection that are not attributes of the event.
type Transport struct {
	Protocol      string // "mqtt", "http", "coap"
	Topic         string // MQTT topic name; for a subscribe event the topic filter
	QoS           byte
	Retain        bool
	Properties    []Property
	ResponseTopic string
	Correlation   []byte // MQTT correlation data
	Method        string // HTTP or CoAP
	Path          string
	Query         string
	ClientID      string
	Username      string
	Peer          string // remote address, "host:port"
	// Upload is the body of an HTTP request that the gateway wrote to disk; nil: the
	// body is the event's data.
	Upload *Upload
}

// Upload is a request's body on the gateway's disk. The effect KeepFile makes a file
// of it.
type Upload struct {
	ID     string
	Size   uint64 // bytes
	SHA256 string // lower-case hex
	// Name and ContentType are what the client says of it; of a multipart form, those
	// of its file.
	Name        string
	ContentType string
}

// Inbound is one event on its way in, with its transport.
type Inbound struct {
	Event     Event
	Transport Transport

	// Original is what the device's own CloudEvent says of itself, where the message was
	// one: id, source, type, subject and time, and nothing else. Its data and its other
	// attributes are those of Event. nil: the message was none.
	Original *Event

	// Sent is for the gateway alone, and no part of a request. nil: the message is what
	// Event says.
	Sent *Sent
}

// Sent is a message as its sender wrote it, where the event has taken it apart or could not.
type Sent struct {
	ContentType string
	Payload     []byte
	// Err says why the message, which claims to be a CloudEvent, is none. Such an event
	// goes into quarantine instead of to a plugin.
	Err error
}
