// Package mqtt is Tributary's MQTT server: it accepts connections, answers every packet,
// and hands what devices say to the router. It speaks MQTT 3.1.1 and 5.0.
//
// # Who is who
//
// A conn is one network connection and has one goroutine, its reader. A second
// one, the flusher, exists only while there are bytes to write, so that an idle
// connection costs little and acknowledgements that are due together leave in
// one write. Only these two touch the socket. A sender is the client of a connection. What
// outlives a connection (subscriptions, queues, wills) is package session's, which sees a
// connection as a session.Link.
//
// # Lock order
//
//	Server.mu
//	session's locks → conn.mu
//	                → contests.mu
//
// Nothing that may block (router, authenticator, socket) is called under any of them: those
// calls happen on the reader, or after unlocking.
//
// # Acknowledgements
//
// An inbound PUBLISH takes a place in its connection's ack queue on arrival. The
// router's outcome fills the place in; the filled prefix of the queue is emitted
// in arrival order, fan-out before ack [MQTT-4.6.0-2]. Nothing of it depends on
// the connection still being there: a message whose commit succeeded is fanned
// out, and its device sends it again if it saw no ack.
//
// # MQTT 3.1.1
//
// It has no negative acknowledgement of a PUBLISH. A refused one is acknowledged
// and dropped, as [MQTT-3.3.5-2] permits, counted in
// tributary_mqtt_refused_publishes_total and logged.
//
// # CloudEvents from devices
//
// A PUBLISH (MQTT 5) whose Content Type starts with application/cloudevents, or
// whose user properties include the four required attributes, is a CloudEvent of
// the MQTT binding and must be a valid one: otherwise it goes into quarantine as it
// came, and its sender hears 0x99. Its datacontenttype, dataschema, data and extensions
// become those of the inbound event; its id, source, type, subject and time travel
// beside it (event.Inbound.Original): the plugin decides what they are worth.
package mqtt
