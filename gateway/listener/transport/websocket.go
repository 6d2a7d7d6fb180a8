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
	case op > opPong || op > opBinary && !control:
		return statusError{statusProtocol, fmt.Sprintf("the opcode %d is unknown", op)}
	case op == opText:
		return statusError{statusUnsupported, "a message is text; MQTT needs binary ones"} // [MQTT-6.0.0-1]
	case op == opContinuation != w.fragmented && !control:
		return statusError{statusProtocol, "a fragment has no beginning, or a message none of its own"}
	case control:
		return w.control(op, h, n, int(length))
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
		return w.pong(payload)
	case opClose:
		w.broken = io.EOF
		w.close(statusNormal)
		return io.EOF
	}
	return nil // a pong, of which nothing follows
}

// pongTime bounds how long a client that pings may leave the answer unread.
const pongTime = 5 * time.Second

// pong answers a ping. The deadline is its own, for that of the last write may be
// long over; a write that begins at the same time gets it, too. What fails is not
// the deadline of a read, so it must not look like that.
func (w *socket) pong(payload []byte) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.ended {
		return nil
	}
	w.Conn.SetWriteDeadline(time.Now().Add(pongTime))
	if err := w.writeFrame(opPong, payload); err != nil {
		w.broken = fmt.Errorf("answering a ping of WebSocket: %v", err)
	}
	return w.broken
}

// Write sends a binary message.
func (w *socket) Write(b []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.ended {
		return 0, net.ErrClosed
	}
	if err := w.writeFrame(opBinary, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// writeFrame writes one frame in one go: one segment, one TLS record where it fits.
// One that could not be written whole leaves the connection unusable, as it is with
// any stream. The caller holds writing.
func (w *socket) writeFrame(op byte, payload []byte) error {
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
const closeTime = 100 * time.Millisecond

// close sends a close frame, once, unless a write hangs that nothing can follow.
func (w *socket) close(status uint16) {
	if !w.writing.TryLock() {
		return
	}
	defer w.writing.Unlock()
	if !w.ended {
		w.ended = true
		w.Conn.SetWriteDeadline(time.Now().Add(closeTime))
		w.writeFrame(opClose, binary.BigEndian.AppendUint16(nil, status))
	}
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
