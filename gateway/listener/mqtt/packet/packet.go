// Package packet encodes and decodes MQTT control packets of versions 3.1.1 and
// 5.0. It knows nothing of sessions; the mqtt listener and the load generator
// import it.
package packet

// Type is the control packet type, MQTT 5.0 section 2.1.2.
type Type byte

// The control packet types.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// Versions as they stand in CONNECT.
const (
	V311 byte = 4
	V5   byte = 5
)

// UserProperty is one name and value pair; order and duplicates matter.
type UserProperty struct{ Name, Value string }

// Properties are the MQTT 5 properties of a packet. A pointer field is nil when
// the property is absent. Which of them a packet may carry is checked on
// decoding (a violation is a Protocol Error, 0x82) and trusted on encoding.
type Properties struct {
	PayloadFormat        *byte
	MessageExpiry        *uint32
	ContentType          *string
	ResponseTopic        *string
	CorrelationData      []byte // nil: absent
	SubscriptionIDs      []uint32
	SessionExpiry        *uint32
	AssignedClientID     *string
	ServerKeepAlive      *uint16
	AuthMethod           *string
	AuthData             []byte
	RequestProblemInfo   *byte
	WillDelay            *uint32
	RequestResponseInfo  *byte
	ResponseInfo         *string
	ServerReference      *string
	ReasonString         *string
	ReceiveMaximum       *uint16
	TopicAliasMaximum    *uint16
	TopicAlias           *uint16
	MaximumQoS           *byte
	RetainAvailable      *byte
	User                 []UserProperty
	MaximumPacketSize    *uint32
	WildcardSubAvailable *byte
	SubscriptionIDAvail  *byte
	SharedSubAvailable   *byte
}

// Will is the will message of a CONNECT.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Props   *Properties
}

// Connect is a CONNECT packet.
type Connect struct {
	Version     byte
	CleanStart  bool
	KeepAlive   uint16
	ClientID    string
	Will        *Will
	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool
	Props       *Properties
}

// Connack is a CONNACK packet. Code is the 3.1.1 return code or 5.0 reason code.
type Connack struct {
	SessionPresent bool
	Code           byte
	Props          *Properties
}

// Publish is a PUBLISH packet. Payload of a decoded one aliases the frame.
type Publish struct {
	Dup     bool
	QoS     byte
	Retain  bool
	Topic   string
	ID      uint16 // 0 for QoS 0
	Props   *Properties
	Payload []byte
}

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP packet.
type Ack struct {
	Type  Type
	ID    uint16
	Code  byte
	Props *Properties
}

// Filter is one subscription of a SUBSCRIBE.
type Filter struct {
	Topic             string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// Subscribe is a SUBSCRIBE packet.
type Subscribe struct {
	ID      uint16
	Filters []Filter
	Props   *Properties
}

// Suback is a SUBACK packet.
type Suback struct {
	ID    uint16
	Codes []byte
	Props *Properties
}

// Unsubscribe is an UNSUBSCRIBE packet.
type Unsubscribe struct {
	ID     uint16
	Topics []string
	Props  *Properties
}

// Unsuback is an UNSUBACK packet; 3.1.1 sends no codes.
type Unsuback struct {
	ID    uint16
	Codes []byte
	Props *Properties
}

// Pingreq and Pingresp have no content.
type (
	Pingreq  struct{}
	Pingresp struct{}
)

// Disconnect is a DISCONNECT packet.
type Disconnect struct {
	Code  byte
	Props *Properties
}

// Auth is an AUTH packet (5.0 only).
type Auth struct {
	Code  byte
	Props *Properties
}

// Error is a violation of the MQTT specification, with the reason code that
// the connection is to be closed with (0x81 Malformed Packet, 0x82 Protocol
// Error, 0x84 Unsupported Protocol Version, 0x95 Packet too large, …).
type Error struct {
	Code   byte
	Reason string
}

func (e *Error) Error() string { return e.Reason }

// The functions of this package:
//
//	Header(b []byte, max int) (typeAndFlags byte, size, headerLen int, err error)
//	    parses a fixed header at the start of b; headerLen 0: more bytes are needed.
//	    size is the remaining length; above max it fails with 0x95 as soon as the
//	    length is known, before anything is allocated.
//	Decode(version byte, typeAndFlags byte, body []byte) (Packet, error)
//	    one packet from its body; for CONNECT version is ignored. Strings are copied,
//	    payloads and binary data alias body. (DecodePublish(version, flags, body, *Publish)
//	    is the allocation-lean path that the reader uses.)
//	(each packet type).Append(dst []byte, version byte) []byte
//	    appends the whole frame; for version V311 properties and codes that 3.1.1
//	    does not have are left out.
//	ValidTopic(name string) bool, ValidFilter(filter string) bool
//	Match(filter, topic string) bool       MQTT section 4.7, incl. $-topics
