// Package session keeps what outlives a connection: sessions with their subscriptions,
// queues and messages in flight, retained messages, wills, and the records of all of them.
// It is the router's way to devices. It knows a connection only as a Link, so that any
// protocol can have sessions.
//
// # Who is who
//
// A session is what the gateway keeps for a client identifier: subscriptions, the outbox
// (queue and messages in flight) and the inbound QoS 2 identifiers. A space is the topic
// space of one application: its subscriptions, shared groups and retained messages. A
// LogSubscription is one subscription to a log. A Publication is a message on its way from a
// client to the sessions that subscribed. The journal writes changes to the store.
//
// # Locks
//
//	Sessions.mu → session.mu → space.mu
//	                         → the lock of the Link, and the listener's of one SUBSCRIBE
//	                         → device.mu; index.mu → device.mu
//	Sessions.mu → spacesMu → space.mu
//
// A lock may be taken only while holding locks that point to it. Two locks of the same kind
// are never held together. Nothing that may block (router, logs, entrance) is called under a
// lock. A fan-out collects its receivers under space.mu, unlocks, and then locks one session
// after the other.
//
// The caller of a function whose name ends in Locked holds mu of the receiver; other locks
// that it has to hold are named. Such a function may return an afterUnlock, which its caller
// runs after unlocking.
//
// # The store
//
// The store has every persistent session with its subscriptions, wills, inbound QoS 2
// identifiers, queue and flights (record.go lists the keys), and every retained message.
// Changes get there in two ways.
//
// Changes that have to be durable together with the effects of an event are prepared for the
// event's commit: entries in queues (reservations), a retained message, an inbound QoS 2
// identifier, the end of a will. A message that no route takes has a commit of its own if it
// needs one, and stays behind the messages before it.
//
// All other changes are noted in the journal, under the mu of the session that they concern,
// and become durable in the order in which they were noted. What a packet promises is
// committed at once, and the commit's callback sends the packet; the rest follows within a
// moment. A commit may be made under any lock: it waits for the disk at worst, never for a
// callback. journal.mu comes last in the lock order, but for the locks of the store.
//
// Between a prepare and the callback of its commit, other things happen:
//
//   - A session subscribes. It gets the message, and an entry through the journal, which the
//     publisher's acknowledgement waits for. A session that had its SUBACK before the PUBLISH
//     came has been prepared for.
//   - A session unsubscribes, ends, or is filled by others. It has a reserved place; the
//     message is not delivered, and its entry is deleted. After a crash in between, the
//     session gets one more message from before it unsubscribed; a start deletes an entry
//     without a session. The record of a session that ends stays, as expired, until none of
//     its messages may have to go to another member of a shared group: a start then ends the
//     session again and finds a member.
//   - A client disconnects or returns. An entry belongs to the session and not to the
//     connection. The shelf of a session that is away has its entries in the order of
//     delivery. welcome fills them with the messages before anything is sent, and later
//     messages queue behind them.
//   - The commit conflicts and is tried again. Places and bodies are given back first.
//   - Two messages are retained on one topic. They are retained in the callbacks, which come
//     in the order of the commits, so that memory and store agree on the last one.
//   - The session is taken over. Packets that the old connection has not read yet are ignored
//     if they could undo what the client has done since (QoS 2, UNSUBSCRIBE); the client sends
//     them again.
//
// The two ways never write one key after the other has deleted it: an entry's number is used
// only once, and an identifier is prepared again only after the deletion of its last use is
// durable, which is before PUBCOMP.
package session
