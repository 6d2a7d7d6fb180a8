// Package event holds the types that the gateway and its plugins share: the event, the facts
// about its transport, the effects that a plugin returns, and reason codes. Package codec
// encodes and decodes them. Package event imports only the standard library and builds for
// GOOS=wasip1.
package event

import "time"

// SpecVersion is the CloudEvents version of every event that is encoded.
const SpecVersion = "1.0"

// Types of the events that the gateway makes for plugins.
const (
	TypeConnect    = "io.tributary.connect.v1"    // credentials to allow or deny
	TypePublish    = "io.tributary.publish.v1"    // a device's message
	TypeSubscribe  = "io.tributary.subscribe.v1"  // a device asks for a topic filter
	TypeConnection = "io.tributary.connection.v1" // a device went online or offline
	TypeRequest    = "io.tributary.request.v1"    // an HTTP or CoAP request
	TypeCommand    = "io.tributary.command.v1"    // an application's command to a device
	TypeTimer      = "io.tributary.timer.v1"      // a timer that the plugin set
	TypeResponse   = "io.tributary.response.v1"   // the response to an outbound HTTP call
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

// Event is one CloudEvent. A zero field means that the attribute is absent. An Event must
// not be changed concurrently: it is passed on by value, or not used any more.
type Event struct {
	ID              string
	Source          string
	Type            string
	Subject         string
	Time            time.Time // zero: absent; UTC on the wire
	TimeText        string    // the text of Time if that differs, see SetTime
	DataContentType string    // RFC 2046 media type
	DataSchema      string    // absolute URI

	// Application, Device and Sender are the extension attributes of the same names. The
	// gateway sets them from the authenticated identity and discards what a device claims.
	// Sender is the device that sent the message: a gateway device for Device, or Device
	// itself.
	Application string
	Device      string
	Sender      string

	// Extensions holds the other extension attributes, in order. Names are unique and made
	// of a-z and 0-9.
	Extensions []Attribute

	// Data is the payload; nil means that there is none. Text means that Data is UTF-8
	// text. The JSON event format carries Data as a JSON value if the media type is JSON, as
	// a string if Text is set with another media type, and otherwise in base64, also if
	// there is no media type.
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

// SetExtension sets the named extension attribute to a string, and adds it if it is absent.
func (e *Event) SetExtension(name, value string) {
	for i := range e.Extensions {
		if e.Extensions[i].Name == name {
			e.Extensions[i] = Attribute{Name: name, Value: value}
			return
		}
	}
	e.Extensions = append(e.Extensions, Attribute{Name: name, Value: value})
}

// Property is an MQTT user property or an HTTP header. Lists of them keep order and
// duplicates.
type Property struct{ Name, Value string }

// Transport holds the facts about the message and the connection of an inbound event that
// are not attributes of the event.
type Transport struct {
	Protocol      string // "mqtt", "http", "coap"
	Topic         string // MQTT topic name; of a subscribe event the topic filter
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
	// Upload is the body of an HTTP request that the gateway wrote to disk. nil means that
	// the body is the event's data.
	Upload *Upload
}

// Upload is the body of an HTTP request on the gateway's disk. The effect KeepFile makes it
// a file of the plugin.
type Upload struct {
	ID     string
	Size   uint64 // bytes
	SHA256 string // lower-case hex
	// Name and ContentType are what the client declares. For a multipart form, they are
	// those of the form's file.
	Name        string
	ContentType string
}

// Inbound is one event on its way in, with its transport.
type Inbound struct {
	Event     Event
	Transport Transport

	// Original has the id, source, type, subject and time of the CloudEvent that the device
	// sent, and nothing else: its data and its other attributes are in Event. It is nil if
	// the message was no CloudEvent.
	Original *Event

	// Sent is used inside the gateway and never encoded. It is nil if Event holds the
	// message as it was sent.
	Sent *Sent
}

// Sent is a message as its sender wrote it, if that was a CloudEvent or claimed to be one.
type Sent struct {
	ContentType string
	Payload     []byte
	// Err says why the message is not a valid CloudEvent although it claims to be one. Such
	// an event goes into quarantine and not to a plugin.
	Err error
}
