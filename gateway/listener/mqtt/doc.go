// Package mqtt is Tributary's MQTT server: it accepts connections, answers every packet,
// and hands what devices say to the router. It speaks MQTT 3.1.1 and 5.0.
//
// # Who is who
//
// A conn is one network connection. Its reader is a goroutine that lives as long as the
// connection. A second goroutine, the flusher, runs only while there are bytes to write: an
// idle connection costs little, and acknowledgements that are due together leave in one
// write. Only these two touch the socket. A sender is the client of a connection. Package
// session keeps what outlives a connection (subscriptions, queues, wills), and sees the
// connection as a session.Link.
//
// # Locks
//
//	Server.mu
//	session's locks → conn.mu
//	                → contests.mu
//
// The caller of a function whose name ends in Locked holds mu of the receiver. Nothing that
// may block (router, authenticator, socket) is called under a lock: those calls happen on
// the reader, or after unlocking.
//
// # Acknowledgements
//
// An inbound PUBLISH gets a place in its connection's ack queue when it arrives. Its verdict
// comes from the router's outcome. Messages at the head of the queue that have their verdict
// are acknowledged in the order of arrival, after they were sent to the subscribers
// [MQTT-4.6.0-2]. None of this needs the connection: a message whose commit succeeded is
// delivered even if the connection has ended, and the device sends it again if it saw no
// acknowledgement.
//
// # MQTT 3.1.1
//
// MQTT 3.1.1 cannot refuse a PUBLISH. A refused one is acknowledged and dropped, as
// [MQTT-3.3.5-2] permits, counted in tributary_mqtt_refused_publishes_total and logged.
//
// # CloudEvents from devices
//
// An MQTT 5 PUBLISH is a CloudEvent of the MQTT binding if its Content Type begins with
// application/cloudevents, or if its user properties include the four required attributes.
// If the CloudEvent is not valid, the message goes into quarantine as it came, and the sender
// gets 0x99. The inbound event takes datacontenttype, dataschema, data and extensions from
// the CloudEvent. The CloudEvent's id, source, type, subject and time stand beside them in
// event.Inbound.Original; the plugin decides what they are worth.
package mqtt
