package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// socket is the bytes of binary WebSocket messages as a net.Conn (RFC 6455;
// MQTT 5.0 section 6). Where messages begin and end means nothing [MQTT-6.0.0-2].
// It keeps no goroutine and no buffer but a small one, reads no more of a frame
// than its reader asks for, offers no extensions (so nothing is decompressed), and
// passes deadlines on, so that a read may time out and go on later.
type socket struct {
	*Conn

	// Of the reader.
	buf        [256]byte // bytes from the peer, buf[from:to]
	from, to   int
	left       uint64 // of the present frame
	mask       [4]byte
	at         int  // in the mask
	fragmented bool // the message goes on in the next frame
	broken     error

	writing sync.Mutex
	ended   bool // a close frame went out
}

// Opcodes and bits of a frame, section 5.2.
const (
	opContinuation, opText, opBinary = 0x0, 0x1, 0x2
	opClose, opPing, opPong          = 0x8, 0x9, 0xA
	bitFin, bitsReserved, bitMask    = 0x80, 0x70, 0x80
)

// Status codes of a close frame, section 7.4.1.
const (
	statusNormal      = 1000
	statusProtocol    = 1002
	statusUnsupported = 1003
)

func newWebSocket(c *Conn, early []byte) net.Conn {
	w := &socket{Conn: c}
	if len(early) > len(w.buf) { // a client that talked before it was answered
		w.Conn = &Conn{Conn: &prefixed{Conn: c, early: early}, remote: c.remote, secure: c.secure, chain: c.chain}
		return w
	}
	w.to = copy(w.buf[:], early)
	return w
}

// prefixed is a connection of which some bytes were read already.
type prefixed struct {
	net.Conn
	early []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.early) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.early)
	p.early = p.early[n:]
	return n, nil
}

// CloseWrite implements the half close of the connection below.
func (p *prefixed) CloseWrite() error { return p.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Read returns bytes of binary messages. io.EOF is the peer's close frame.
func (w *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for w.left == 0 {
		if w.broken != nil {
			return 0, w.broken
		}
		if err := w.frame(); err != nil {
			var status statusError
			if errors.As(err, &status) {
				w.broken = err
				w.close(status.code)
			}
			return 0, err
		}
	}
	if uint64(len(b)) > w.left {
		b = b[:w.left]
	}
	var n int
	var err error
	if w.from < w.to {
		n = copy(b, w.buf[w.from:w.to])
		w.from += n
	} else if n, err = w.Conn.Read(b); n == 0 {
		return 0, unexpected(err)
	}
	for i := range b[:n] {
		b[i] ^= w.mask[w.at&3]
		w.at++
	}
	w.left -= uint64(n)
	return n, nil
}

// statusError is a fault of the peer with the status that it is told.
type statusError struct {
	code   uint16
	reason string
}

func (e statusError) Error() string { return "WebSocket: " + e.reason }

// unexpected makes an end in the middle of something one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame reads the header of the next frame that has data, and acts on control
// frames. After an error of a deadline it may be called again.
func (w *socket) frame() error {
	h, n, err := w.header()
	if err != nil {
		return err
	}
	op, fin := h[0]&0xF, h[0]&bitFin != 0
	control := op >= opClose
	switch length := w.length(h[:n]); {
	case h[0]&bitsReserved != 0:
		return statusError{statusProtocol, "a frame has a reserved bit set"}
	case h[1]&bitMask == 0:
		return statusError{statusProtocol, "a frame of a client is not masked"}
	case length < 0:
		return statusError{statusProtocol, "the length of a frame is not written as short as it can be, or too long"}
	case control && (!fin || length > 125):
		return statusError{statusProtocol, "a control frame is fragmented or too long"}
	case op == opText:
		return statusError{statusUnsupported, "a message is text; MQTT needs binary ones"} // [MQTT-6.0.0-1]
	case op == opContinuation != w.fragmented && !control:
		return statusError{statusProtocol, "a fragment has no beginning, or a message none of its own"}
	case control:
		return w.control(op, h, n, int(length))
	case op != opBinary && op != opContinuation:
		return statusError{statusProtocol, fmt.Sprintf("the opcode %d is unknown", op)}
	default:
		w.from += n
		copy(w.mask[:], h[n-4:n])
		w.at, w.left, w.fragmented = 0, uint64(length), !fin
	}
	return nil
}

// header returns the header of the next frame, which stays in the buffer.
func (w *socket) header() (h []byte, n int, err error) {
	for {
		h = w.buf[w.from:w.to]
		n = 2
		if len(h) >= 2 {
			switch h[1] & 0x7F {
			case 126:
				n += 2
			case 127:
				n += 8
			}
			n += 4 // the mask; without one the frame is refused anyway
			if h[1]&bitMask == 0 {
				n -= 4
			}
		}
		if len(h) >= 2 && len(h) >= n {
			return h, n, nil
		}
		if err := w.fill(); err != nil {
			if len(h) > 0 {
				err = unexpected(err)
			}
			return nil, 0, err
		}
	}
}

// fill reads more into the buffer.
func (w *socket) fill() error {
	if w.from > 0 {
		w.to = copy(w.buf[:], w.buf[w.from:w.to])
		w.from = 0
	}
	n, err := w.Conn.Read(w.buf[w.to:])
	w.to += n
	if n > 0 {
		return nil
	}
	return err
}

// length reads the length in a header; below zero it is wrong.
func (w *socket) length(h []byte) int64 {
	switch n := int64(h[1] & 0x7F); n {
	case 126:
		if v := int64(binary.BigEndian.Uint16(h[2:])); v > 125 {
			return v
		}
		return -1
	case 127:
		if v := int64(binary.BigEndian.Uint64(h[2:])); v > 0xFFFF {
			return v
		}
		return -1
	default:
		return n
	}
}

// control acts on a control frame, whose payload must be in the buffer whole.
func (w *socket) control(op byte, h []byte, n, length int) error {
	for len(h) < n+length {
		if err := w.fill(); err != nil {
			return unexpected(err)
		}
		h = w.buf[w.from:w.to]
	}
	var mask [4]byte
	copy(mask[:], h[n-4:n])
	payload := make([]byte, length)
	for i := range payload {
		payload[i] = h[n+i] ^ mask[i&3]
	}
	w.from += n + length
	switch op {
	case opPing:
		return w.send(opPong, payload)
	case opPong:
		return nil
	case opClose:
		w.broken = io.EOF
		w.close(statusNormal)
		return io.EOF
	}
	return statusError{statusProtocol, fmt.Sprintf("the opcode %d is unknown", op)}
}

// Write sends a binary message.
func (w *socket) Write(b []byte) (int, error) {
	if err := w.send(opBinary, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// send writes one frame. A frame that could not be written whole leaves the
// connection unusable, as it is with any stream.
func (w *socket) send(op byte, payload []byte) error {
	header := make([]byte, 0, 10)
	header = append(header, bitFin|op)
	switch n := len(payload); {
	case n < 126:
		header = append(header, byte(n))
	case n <= 0xFFFF:
		header = binary.BigEndian.AppendUint16(append(header, 126), uint16(n))
	default:
		header = binary.BigEndian.AppendUint64(append(header, 127), uint64(n))
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.ended {
		return net.ErrClosed
	}
	w.ended = op == opClose
	return w.writeAll(header, payload)
}

// writeAll writes a frame in one go: one segment, one TLS record where it fits.
func (w *socket) writeAll(header, payload []byte) error {
	if tcp, plain := w.Conn.Conn.(*net.TCPConn); plain {
		parts := net.Buffers{header, payload}
		_, err := parts.WriteTo(tcp)
		return err
	}
	if len(payload) <= 16<<10 {
		_, err := w.Conn.Write(append(header, payload...))
		return err
	}
	if _, err := w.Conn.Write(header); err != nil {
		return err
	}
	_, err := w.Conn.Write(payload)
	return err
}

// closeTime bounds how long a close frame may take on a connection that is full.
const closeTime = time.Second

// close sends a close frame, once.
func (w *socket) close(status uint16) {
	w.Conn.SetWriteDeadline(time.Now().Add(closeTime)) // also ends a write that hangs
	w.send(opClose, binary.BigEndian.AppendUint16(nil, status))
}

// CloseWrite tells the peer that nothing more comes.
func (w *socket) CloseWrite() error {
	w.close(statusNormal)
	return w.Conn.CloseWrite()
}

// Close ends the connection.
func (w *socket) Close() error {
	w.close(statusNormal)
	return w.Conn.Close()
}
