package session

import (
	"sync"
	"time"
)

// Link is a connection as its session sees it. The session calls it while holding its own
// lock; no method blocks.
type Link interface {
	// Lock holds the output of the connection for one batch of the methods below.
	sync.Locker
	// Room says whether the output takes more messages. After a false one the connection
	// calls ready when it does.
	Room() bool
	// Put appends a message under a packet identifier (0 at QoS 0). It is false, and
	// nothing happened, if the client can never take it. The receipt of a record of QoS 0
	// is the connection's from then on. The output is held.
	Put(it *Item, id uint16, dup bool, now time.Time) bool
	// PutRelease appends the PUBREL of a message of QoS 2. The output is held.
	PutRelease(id uint16)
	// Wake has what was appended leave soon. The output is held.
	Wake()

	// Greet tells the client that it has its session, resumed or new, before anything else.
	Greet(resumed bool)
	// PutNow sends a message of QoS 0, unless the client is too slow for it.
	PutNow(it *Item, now time.Time) bool
	// Expire ends the connection at a time, unless it is told another one; never if zero.
	Expire(at time.Time)
	// Close ends the connection, with a reason that the client is told.
	Close(code byte, reason string)
}

// Terms are what a session and the client that is connected to it keep to.
type Terms struct {
	Window        int           // messages of QoS 1 and 2 in flight to the client
	Subscriptions int           // of the session
	SlowTimeout   time.Duration // after which a client with a full queue is disconnected; 0: never
}
