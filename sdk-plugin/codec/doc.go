// Package codec writes and reads events: as requests and responses between the gateway
// and a plugin (schemas/plugin.proto), as CloudEvents in protobuf, in the JSON format and
// as the attributes of the MQTT binding. It also says what a valid CloudEvent is. The
// gateway uses all of it and the SDK what a guest needs; plugin authors have package sdk.
// It imports the standard library only and builds for GOOS=wasip1.
package codec
