// Package packet encodes and decodes MQTT control packets of versions 3.1.1 and
// 5.0. It knows nothing of sessions; the mqtt listener and the load generator
// import it.
//
// Decoding checks every rule of the specification that one packet alone can
// break and answers with the reason code that the connection is to be closed
// with. What needs more than the packet (aliases in use, identifiers in flight,
// limits that were announced) is the session's to check; what only the sender's
// role decides is FromClient's.
//
// Statement numbers such as [MQTT-3.3.1-4] are those of MQTT 5.0 unless they
// are marked "3.1.1".
package packet

// Packet is one control packet. Decode returns pointers to the types below.
type Packet interface {
	// Append appends the whole frame to dst and returns the extended slice. For V311 it leaves out
	// properties and codes that 3.1.1 does not have. Nothing is ever cut: Append returns dst as it
	// is if the packet is above MaxSize, has a string or binary data of more than 65,535 bytes, or
	// does not exist in the version.
	Append(dst []byte, version byte) []byte
}

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

// UserProperty is a pair of a name and a value. Their order and duplicates matter.
type UserProperty struct{ Name, Value string }

// Properties are the MQTT 5 properties of a packet. A pointer field is nil if the property is
// absent. Decoding refuses a property that the packet may not carry; encoding leaves it out. Packets
// without properties have a nil *Properties.
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

// Connect is a CONNECT packet. Will payload and password of a decoded one alias the frame. Append
// uses Version if it is set, otherwise its argument.
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

// Connack is a CONNACK packet. Code is the 3.1.1 return code or 5.0 reason code;
// a reason code from 0x80 is translated when it is appended for V311.
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

// Error is a violation of the MQTT specification, with the reason code that closes the connection.
//
// A CONNECT is refused by (&Connack{Code: e.Code}).Append(dst, e.Version), which appends nothing if
// 3.1.1 requires silence. Version 0 says that the peer does not speak MQTT: close without an answer.
type Error struct {
	Code    byte
	Reason  string
	Version byte // version in which a refused CONNECT is answered; 0 for other packets
}

func (e *Error) Error() string { return e.Reason }
