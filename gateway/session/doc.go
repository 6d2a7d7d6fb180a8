// Package session keeps what outlives a connection: sessions with their subscriptions,
// queues and messages in flight, retained messages, wills, and the records of all of it. It is
// the router's way to devices, and knows a connection only as a Link, so that any protocol
// can have sessions.
//
// # Who is who
//
// A Session is what the gateway keeps for a client identifier: subscriptions, the outbox
// (queue and messages in flight) and the inbound QoS 2 identifiers. A space is the topic
// space of one application: the tree of subscriptions, the shared groups, the retained
// messages. A LogSubscription is one subscription to a log. A Publication is a message on
// its way from a client to the sessions that subscribed. The journal is what gets all of
// it into the store.
//
// # Lock order
//
//	Sessions.mu → Session.mu → space.mu
//	                         → the lock of the Link
//	Sessions.mu → index.mu → device.mu ← Session.mu
//	Sessions.mu → spacesMu → space.mu
//
// A lock is only ever taken while holding locks that point to it; two of the same
// kind are never held together. Nothing that may block (router, logs, entrance) is called
// under any of them. A fan-out collects its receivers under space.mu,
// unlocks, and then locks one session after the other.
//
// # The store
//
// A persistent session is in the store with its subscriptions, wills, inbound QoS 2
// identifiers, queue and flights (record.go lists the keys); every retained message
// is. Two ways lead there:
//
// What is to be durable together with the effects of an event is prepared for its
// commit: entries in queues (bookings), a retained message, an inbound QoS 2
// identifier, the end of a will. A message that no route takes has a commit of its own
// if it needs one, and stays behind those before it.
//
// Everything else is noted in the journal, under the lock of the session that it
// concerns, in the order in which it happens, and becomes durable in that order. What
// a packet promises is committed at once, and the packet leaves from the commit's
// callback; the rest follows within a moment. A commit of the store may be made
// under any lock: it waits for the disk at worst, never for a callback. journal.mu
// comes last in the lock order.
//
// Between a prepare and its commit's callback the world goes on:
//
//   - A session subscribes: it gets the message, and an entry of its own through the
//     journal, whose commit the acknowledgement of the publisher awaits then. Whoever
//     had its SUBACK before the PUBLISH came was prepared for.
//   - A session unsubscribes, ends, or is filled by others: its place was reserved,
//     the message is not delivered, and its entry is taken back. After a crash in
//     between, the session gets a message more that came before it unsubscribed; an
//     entry without a session is dropped at the start. The record of a session that
//     ends stays, as of one whose time is up, until none of its messages can be another
//     member's of a shared group: a start ends it again and finds them one.
//   - A client disconnects or comes back: an entry belongs to the session, not to the
//     connection. The shelf of a session that is away has its entries in the order of
//     delivery; welcome fills them with the messages before anything is sent, and what
//     arrives meanwhile queues behind.
//   - The commit conflicts and is tried again: places and bodies are given back first.
//   - Two messages are retained on one topic: they are retained in the callbacks, whose
//     order is that of the commits, so that memory and store agree on the last.
//   - The session is taken over: packets that the old connection still had unread are
//     not acted on where that could undo what the client has done since (QoS 2,
//     UNSUBSCRIBE); the client sends them again.
//
// A key is never written by one way after it was deleted by the other: entries are
// numbered once for all, and an identifier is prepared again only after the deletion
// of its last use was durable, which is before PUBCOMP.
package session
