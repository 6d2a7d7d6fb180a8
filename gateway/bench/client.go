package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// A client is one MQTT connection, used by one goroutine. What it counts may be read
// by others at any time.
type client struct {
	nc      net.Conn
	id      string
	version byte
	buf     []byte // received: buf[:end] is not taken yet
	end     int
	out     []byte // not yet written

	receiveMaximum int // of the server; 65,535 where it named none

	bytesOut, bytesIn atomic.Int64
}

// maxFrame is more than any server has reason to send here.
const maxFrame = 32 << 20

// connect opens a connection and waits for its CONNACK.
func connect(ctx context.Context, c *Config, address, id string, n int) (*client, error) {
	deadline := time.Now().Add(c.ConnectTimeout)
	d := net.Dialer{Deadline: deadline}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bench: connecting %s: %w", id, err)
	}
	cl := &client{nc: nc, id: id, version: c.Version, buf: make([]byte, 512), receiveMaximum: 65_535}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	nc.SetDeadline(deadline)

	hello := packet.Connect{Version: c.Version, CleanStart: true, ClientID: id}
	// The keep-alive is longer than the run, so that nothing but load is sent.
	hello.KeepAlive = uint16(min(65_535, int((c.Duration+c.Drain+c.ConnectTimeout)/time.Second)*2+60))
	if c.Username != "" {
		hello.Username, hello.HasUsername = expand(c.Username, id, n), true
	}
	if c.Password != "" {
		hello.Password, hello.HasPassword = []byte(c.Password), true
	}
	if c.Version == packet.V311 && hello.HasPassword {
		hello.HasUsername = true // 3.1.1 has no password without user name
	}
	cl.out = hello.Append(cl.out, c.Version)
	reply, err := cl.request()
	ack, ok := reply.(*packet.Connack)
	switch {
	case err != nil:
	case !ok:
		err = fmt.Errorf("got %T instead of CONNACK", reply)
	case ack.Code != 0:
		err = fmt.Errorf("refused with code 0x%02x%s", ack.Code, reason(ack.Props))
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("bench: connecting %s: %w", id, err)
	}
	if ack.Props != nil && ack.Props.ReceiveMaximum != nil {
		cl.receiveMaximum = int(*ack.Props.ReceiveMaximum)
	}
	if err := ctx.Err(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("bench: connecting %s: %w", id, err)
	}
	nc.SetDeadline(time.Time{})
	return cl, nil
}

// subscribe subscribes and waits for the SUBACK. It comes before any load, so only
// retained messages can arrive earlier; they are dropped.
func (cl *client) subscribe(filter string, qos byte, timeout time.Duration) error {
	cl.nc.SetDeadline(time.Now().Add(timeout))
	defer cl.nc.SetDeadline(time.Time{})
	s := packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter, QoS: qos}}}
	cl.out = s.Append(cl.out, cl.version)
	for {
		reply, err := cl.request()
		if err != nil {
			return fmt.Errorf("bench: subscribing %s to %s: %w", cl.id, filter, err)
		}
		switch ack := reply.(type) {
		case *packet.Publish:
			if ack.QoS == 1 {
				cl.out = (&packet.Ack{Type: packet.PUBACK, ID: ack.ID}).Append(cl.out, cl.version)
			}
			continue
		case *packet.Suback:
			if ack.Codes[0] >= packet.CodeUnspecified {
				return fmt.Errorf("bench: subscribing %s to %s: refused with code 0x%02x%s", cl.id, filter, ack.Codes[0], reason(ack.Props))
			}
			return nil
		}
		return fmt.Errorf("bench: subscribing %s to %s: got %T instead of SUBACK", cl.id, filter, reply)
	}
}

// request writes what is due and waits for one packet. What comes behind it stays
// for the next read.
func (cl *client) request() (reply packet.Packet, err error) {
	if err := cl.flush(); err != nil {
		return nil, err
	}
	for reply == nil {
		err = cl.frames(func(first byte, body []byte) (bool, error) {
			reply, err = packet.Decode(cl.version, first, append([]byte(nil), body...))
			return false, err
		})
		if err == nil && reply == nil {
			err = cl.receive()
		}
		if err != nil {
			return nil, err
		}
	}
	if d, ok := reply.(*packet.Disconnect); ok {
		return nil, disconnected(d)
	}
	return reply, nil
}

// receive reads once, as much as there is.
func (cl *client) receive() error {
	if cl.end == len(cl.buf) {
		if len(cl.buf) >= maxFrame {
			return errors.New("the server sent a packet of more than 32 MiB")
		}
		cl.grow(2 * len(cl.buf))
	}
	n, err := cl.nc.Read(cl.buf[cl.end:])
	cl.end += n
	cl.bytesIn.Add(int64(n))
	switch {
	case n > 0:
		return nil // an error will come again
	case errors.Is(err, io.EOF):
		return errors.New("the server closed the connection")
	}
	return err
}

// grow makes the receive buffer n bytes long.
func (cl *client) grow(n int) {
	if n > len(cl.buf) {
		cl.buf = append(make([]byte, 0, n), cl.buf[:cl.end]...)[:n]
	}
}

// frames hands all whole frames that have arrived to handle, until it returns false.
func (cl *client) frames(handle func(first byte, body []byte) (bool, error)) error {
	at, more := 0, true
	var err error
	for more && err == nil {
		first, size, n, herr := packet.Header(cl.buf[at:cl.end], maxFrame)
		if herr != nil {
			return herr
		}
		if n == 0 || at+n+size > cl.end {
			break
		}
		body := cl.buf[at+n : at+n+size]
		at += n + size
		more, err = handle(first, body)
	}
	cl.end = copy(cl.buf, cl.buf[at:cl.end])
	return err
}

// flush writes what is due.
func (cl *client) flush() error {
	if len(cl.out) == 0 {
		return nil
	}
	n, err := cl.nc.Write(cl.out)
	cl.bytesOut.Add(int64(n))
	cl.out = cl.out[:0]
	return err
}

// close says goodbye, without waiting for long.
func (cl *client) close() {
	cl.nc.SetDeadline(time.Now().Add(100 * time.Millisecond))
	cl.out = (&packet.Disconnect{}).Append(cl.out[:0], cl.version)
	cl.flush()
	cl.nc.Close()
}

// disconnected is the error of a DISCONNECT that the server sent.
func disconnected(d *packet.Disconnect) error {
	return fmt.Errorf("the server disconnected with code 0x%02x%s", d.Code, reason(d.Props))
}

func reason(p *packet.Properties) string {
	if p == nil || p.ReasonString == nil {
		return ""
	}
	return ": " + *p.ReasonString
}

// isTimeout says whether a read or write ended because its deadline passed.
func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
