package mqtt

import (
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

const (
	smallBuffer = 256             // bytes that an idle connection can read into
	bigBuffer   = 32 << 10        // bytes that a busy connection borrows
	lull        = 2 * time.Second // a connection without input for this long gives them back

	// A message after a silence waits for a moment. Packets that reach two connections within
	// microseconds are read in either order, and a client that subscribes on one connection and then
	// publishes on the other expects to get the message.
	silence  = 100 * time.Millisecond
	courtesy = 100 * time.Microsecond
)

// buffer is a borrowed byte slice.
type buffer struct{ b []byte }

// buffers lends byte slices with a capacity of at least bigBuffer.
type buffers struct{ pool sync.Pool }

func (p *buffers) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, bigBuffer)}
}

// put takes a buffer back. One that grew for an exceptionally large packet is left to the garbage
// collector.
func (p *buffers) put(b *buffer) {
	if cap(b.b) >= bigBuffer && cap(b.b) <= 8*bigBuffer {
		b.b = b.b[:0]
		p.pool.Put(b)
	}
}

// input is what a connection has read and not handled yet: buf[start:end].
type input struct {
	buf        []byte
	start, end int
	big        *buffer // the buffer that buf lies in, unless it is small
	small      [smallBuffer]byte
	busy       bool      // the last read filled small
	handled    bool      // packets were handled since the last read
	borrowed   int       // bytes borrowed from the server's budget for strangers
	active     time.Time // the last sign of life from the client
}

// next returns the first byte and the body of the next packet. The body is valid until the next
// call. Pending acknowledgements leave before next waits for input.
func (c *conn) next(max int) (first byte, body []byte, err error) {
	in := &c.input
	for {
		first, size, header, err := packet.Header(in.buf[in.start:in.end], max-2)
		if err != nil {
			return 0, nil, err
		}
		total := header + size
		if header > 0 && total > max {
			return 0, nil, &packet.Error{Code: packet.CodePacketTooLarge, Reason: "packet is larger than the maximum packet size"}
		}
		if header > 0 && in.end-in.start >= total {
			body = in.buf[in.start+header : in.start+total]
			in.start += total
			in.handled = true
			return first, body, nil
		}
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads more input.
func (c *conn) fill() error {
	if err := c.rest(); err != nil {
		return err
	}
	in := &c.input
	if c.sender != nil {
		in.makeRoom(&c.server.buffers)
	} else if err := c.roomForStranger(); err != nil {
		return err
	}
	n, before := 0, c.now
	for n == 0 {
		deadline, onTimeout := c.deadline()
		if in.big != nil && in.start == in.end {
			if cool := time.Now().Add(lull); deadline.IsZero() || cool.Before(deadline) {
				deadline, onTimeout = cool, nil
			}
		}
		c.nc.SetReadDeadline(deadline)
		if err := c.over(); err != nil { // after the deadline is set: see closeLocked and halt
			return err
		}
		var err error
		n, err = c.nc.Read(in.buf[in.end:])
		c.now = time.Now()
		switch {
		case n > 0:
		case isTimeout(err) && c.over() != nil:
			return c.over()
		case isTimeout(err) && onTimeout == nil:
			in.shrink(&c.server.buffers)
		case isTimeout(err):
			return onTimeout
		case err != nil:
			return err
		}
	}
	if packet.Type(in.buf[in.start]>>4) == packet.PUBLISH && c.now.Sub(before) > silence {
		time.Sleep(courtesy)
	}
	in.end += n
	in.busy = in.big == nil && in.end == len(in.small)
	c.server.count.receivedBytes.Add(uint64(n))
	return nil
}

// rest runs between two reads: acknowledgements leave, and the reader waits if the client does not
// read its own.
func (c *conn) rest() error {
	c.mu.Lock()
	c.flushSoonLocked()
	for c.out != nil && len(c.out.b) > 2*c.listener.Limits.WriteBufferBytes && c.phase != connClosing {
		c.change.Wait()
	}
	c.mu.Unlock()
	if c.input.handled && c.sender != nil {
		// Only whole packets are a sign of life. Time that the reader spent waiting does not count
		// against the client. Before the session is attached, several packets get no more time than
		// one.
		c.input.active, c.input.handled = time.Now(), false
	}
	return nil
}

// deadline returns the time by which the next input must come, and the error if it does not. The
// zero time is never.
func (c *conn) deadline() (at time.Time, err error) {
	if c.sender == nil {
		return c.input.active.Add(c.listener.Limits.ConnectTimeout), errSilent
	}
	if c.keepAlive > 0 {
		at, err = c.input.active.Add(c.keepAlive), errIdle // [MQTT-3.1.2-22]
	}
	return at, err
}

// makeRoom makes space behind end. Only input that fills the small buffer gets a big one, and only
// input that fills that gets a bigger one: a length that a client merely claims costs nothing.
func (in *input) makeRoom(pool *buffers) {
	if in.buf == nil {
		in.buf = in.small[:]
	}
	rest := in.buf[in.start:in.end]
	switch {
	case len(rest) == 0 && !(in.busy && in.big == nil):
		in.start, in.end = 0, 0
		if in.big != nil && (len(in.buf) > 8*bigBuffer || len(in.buf) < bigBuffer) { // it grew for one packet
			in.shrink(pool)
		}
		return
	case in.big == nil && !in.busy:
		in.start, in.end = 0, copy(in.buf, rest)
		return
	case in.big == nil || len(in.buf) < bigBuffer: // a buffer below bigBuffer was for a CONNECT
		in.big = pool.get()
	case len(rest) > len(in.buf)*3/4:
		in.big = &buffer{make([]byte, 2*len(in.buf))}
	}
	in.buf = in.big.b[:cap(in.big.b)]
	in.start, in.end = 0, copy(in.buf, rest)
}

// shrink gives a borrowed buffer back. The buffer must be empty.
func (in *input) shrink(pool *buffers) {
	pool.put(in.big)
	in.big, in.buf, in.start, in.end = nil, in.small[:], 0, 0
}

// budget bounds the bytes that are lent to clients before they are authenticated.
type budget struct {
	max  int64
	used atomic.Int64
}

// lend raises to n what a connection has borrowed. It returns false, and lends nothing, if the
// budget does not allow that.
func (b *budget) lend(in *input, n int) bool {
	more := int64(n - in.borrowed)
	if b.used.Add(more) > b.max {
		b.used.Add(-more)
		return false
	}
	in.borrowed = n
	return true
}

// giveBack takes back what a connection borrowed.
func (b *budget) giveBack(in *input) {
	b.used.Add(-int64(in.borrowed))
	in.borrowed = 0
}

// roomForStranger makes room for more bytes of a CONNECT as they come, four times as much each time,
// within the budget of all connections.
func (c *conn) roomForStranger() error {
	in := &c.input
	if in.buf == nil {
		in.buf = in.small[:]
	}
	if in.end < len(in.buf) {
		return nil
	}
	size := 4 * len(in.buf)
	if !c.server.strangers.lend(in, size) {
		c.server.count.rejected.Add(1)
		c.server.limited(limitBytesBeforeConnect)
		return errBytes
	}
	b := make([]byte, size)
	in.start, in.end = 0, copy(b, in.buf[in.start:in.end])
	in.big, in.buf = &buffer{b}, b
	return nil
}
