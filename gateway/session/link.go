package session

import (
	"sync"
	"time"
)

// Link is a connection as its session sees it. The session calls the methods with its own mu locked;
// no method blocks.
type Link interface {
	// Lock holds the output of the connection for several calls of the methods below.
	sync.Locker
	// Room says whether the output takes more messages. If it returns false, the connection calls
	// Session.Ready when there is room.
	Room() bool
	// Put appends a message under a packet identifier (0 at QoS 0). It returns false, and appends
	// nothing, if the client can never take the message. For a record of QoS 0 the connection
	// acknowledges the receipt. Lock is held.
	Put(it *Item, id uint16, dup bool, now time.Time) bool
	// PutRelease appends the PUBREL of a message of QoS 2. Lock is held.
	PutRelease(id uint16)
	// Wake sends what was appended soon. Lock is held.
	Wake()

	// Greet sends CONNACK, before anything else. resumed says whether the session is an earlier one.
	Greet(resumed bool)
	// PutNow sends a message of QoS 0. It returns false if the client is too slow for it.
	PutNow(it *Item, now time.Time) bool
	// Expire sets when the connection ends, until another time is set. The zero time is never.
	Expire(at time.Time)
	// Close ends the connection. The client is told the reason.
	Close(code byte, reason string)
}

// Terms are the limits that a session and its connection agreed on.
type Terms struct {
	Window        int           // messages of QoS 1 and 2 in flight to the client
	Subscriptions int           // subscriptions of the session
	SlowTimeout   time.Duration // how long the queue may be full before the client is disconnected; 0: any time
}
