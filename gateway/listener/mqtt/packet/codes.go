package packet

import "tributary.io/sdk-plugin/event"

// Reason codes as packets carry them, in one byte each. event.Code has the same values.
const (
	CodeSuccess                 = byte(event.Success)
	CodeGrantedQoS1             = byte(event.GrantedQoS1)
	CodeGrantedQoS2             = byte(event.GrantedQoS2)
	CodeDisconnectWithWill      = byte(event.DisconnectWithWill)
	CodeNoMatchingSubscribers   = byte(event.NoMatchingSubscribers)
	CodeNoSubscriptionExisted   = byte(event.NoSubscriptionExisted)
	CodeContinueAuthentication  = byte(event.ContinueAuthentication)
	CodeReauthenticate          = byte(event.Reauthenticate)
	CodeUnspecified             = byte(event.UnspecifiedError)
	CodeMalformedPacket         = byte(event.MalformedPacket)
	CodeProtocolError           = byte(event.ProtocolError)
	CodeImplementationSpecific  = byte(event.ImplementationSpecificError)
	CodeUnsupportedVersion      = byte(event.UnsupportedProtocolVersion)
	CodeClientIDNotValid        = byte(event.ClientIdentifierNotValid)
	CodeBadUserNameOrPassword   = byte(event.BadUserNameOrPassword)
	CodeNotAuthorized           = byte(event.NotAuthorized)
	CodeServerUnavailable       = byte(event.ServerUnavailable)
	CodeServerBusy              = byte(event.ServerBusy)
	CodeBanned                  = byte(event.Banned)
	CodeServerShuttingDown      = byte(event.ServerShuttingDown)
	CodeBadAuthenticationMethod = byte(event.BadAuthenticationMethod)
	CodeKeepAliveTimeout        = byte(event.KeepAliveTimeout)
	CodeSessionTakenOver        = byte(event.SessionTakenOver)
	CodeTopicFilterInvalid      = byte(event.TopicFilterInvalid)
	CodeTopicNameInvalid        = byte(event.TopicNameInvalid)
	CodePacketIDInUse           = byte(event.PacketIdentifierInUse)
	CodePacketIDNotFound        = byte(event.PacketIdentifierNotFound)
	CodeReceiveMaximumExceeded  = byte(event.ReceiveMaximumExceeded)
	CodeTopicAliasInvalid       = byte(event.TopicAliasInvalid)
	CodePacketTooLarge          = byte(event.PacketTooLarge)
	CodeMessageRateTooHigh      = byte(event.MessageRateTooHigh)
	CodeQuotaExceeded           = byte(event.QuotaExceeded)
	CodeAdministrativeAction    = byte(event.AdministrativeAction)
	CodePayloadFormatInvalid    = byte(event.PayloadFormatInvalid)
	CodeRetainNotSupported      = byte(event.RetainNotSupported)
	CodeQoSNotSupported         = byte(event.QoSNotSupported)
	CodeUseAnotherServer        = byte(event.UseAnotherServer)
	CodeServerMoved             = byte(event.ServerMoved)
	CodeSharedSubNotSupported   = byte(event.SharedSubscriptionsNotSupported)
	CodeConnectionRateExceeded  = byte(event.ConnectionRateExceeded)
	CodeMaximumConnectTime      = byte(event.MaximumConnectTime)
	CodeSubIDsNotSupported      = byte(event.SubscriptionIdentifiersNotSupported)
	CodeWildcardSubNotSupported = byte(event.WildcardSubscriptionsNotSupported)
)

var typeNames = [16]string{"reserved type", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

// String returns the name of the type as the specification writes it.
func (t Type) String() string { return typeNames[t&0x0F] }

// bit returns the bits of packet types in the masks of the tables below.
func bit(types ...Type) (mask uint16) {
	for _, t := range types {
		mask |= 1 << t
	}
	return mask
}

// CodeAllowed says whether a packet of type t may carry the reason code in MQTT
// 5.0: [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1],
// [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1].
func CodeAllowed(t Type, code byte) bool {
	switch code {
	case CodeSuccess:
		return true
	case CodeGrantedQoS1, CodeGrantedQoS2:
		return t == SUBACK
	case CodeDisconnectWithWill:
		return t == DISCONNECT
	case CodeNoMatchingSubscribers:
		return t == PUBACK || t == PUBREC
	case CodeNoSubscriptionExisted:
		return t == UNSUBACK
	case CodeContinueAuthentication, CodeReauthenticate:
		return t == AUTH
	}
	if code < CodeUnspecified || code > CodeWildcardSubNotSupported {
		return false
	}
	return errorCodes[code-CodeUnspecified]&(1<<t) != 0
}

// errorCodes has, for each reason code from 0x80, the packets that may carry it.
var errorCodes = [...]uint16{
	0x00: bit(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT),
	0x01: bit(CONNACK, DISCONNECT),
	0x02: bit(CONNACK, DISCONNECT),
	0x03: bit(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT),
	0x04: bit(CONNACK),
	0x05: bit(CONNACK),
	0x06: bit(CONNACK),
	0x07: bit(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT),
	0x08: bit(CONNACK),
	0x09: bit(CONNACK, DISCONNECT),
	0x0A: bit(CONNACK),
	0x0B: bit(DISCONNECT),
	0x0C: bit(CONNACK, DISCONNECT),
	0x0D: bit(DISCONNECT),
	0x0E: bit(DISCONNECT),
	0x0F: bit(SUBACK, UNSUBACK, DISCONNECT),
	0x10: bit(CONNACK, PUBACK, PUBREC, DISCONNECT),
	0x11: bit(PUBACK, PUBREC, SUBACK, UNSUBACK),
	0x12: bit(PUBREL, PUBCOMP),
	0x13: bit(DISCONNECT),
	0x14: bit(DISCONNECT),
	0x15: bit(CONNACK, DISCONNECT),
	0x16: bit(DISCONNECT),
	0x17: bit(CONNACK, PUBACK, PUBREC, SUBACK, DISCONNECT),
	0x18: bit(DISCONNECT),
	0x19: bit(CONNACK, PUBACK, PUBREC, DISCONNECT),
	0x1A: bit(CONNACK, DISCONNECT),
	0x1B: bit(CONNACK, DISCONNECT),
	0x1C: bit(CONNACK, DISCONNECT),
	0x1D: bit(CONNACK, DISCONNECT),
	0x1E: bit(SUBACK, DISCONNECT),
	0x1F: bit(CONNACK, DISCONNECT),
	0x20: bit(DISCONNECT),
	0x21: bit(SUBACK, DISCONNECT),
	0x22: bit(SUBACK, DISCONNECT),
}

// returnCode311 translates a reason code into a CONNACK return code of 3.1.1. ok is false if no
// return code applies: the connection is then closed without a CONNACK, [MQTT-3.2.2-6] of 3.1.1.
func returnCode311(code byte) (ret byte, ok bool) {
	switch code {
	case CodeUnsupportedVersion:
		return 1, true
	case CodeClientIDNotValid:
		return 2, true
	case CodeServerUnavailable, CodeServerBusy, CodeQuotaExceeded, CodeUseAnotherServer, CodeServerMoved, CodeConnectionRateExceeded:
		return 3, true
	case CodeBadUserNameOrPassword:
		return 4, true
	case CodeNotAuthorized, CodeBanned, CodeBadAuthenticationMethod:
		return 5, true
	}
	return code, code <= 5
}
