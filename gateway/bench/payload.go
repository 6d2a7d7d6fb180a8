package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// A stamp marks a message of this run and tells when it was sent: stampMark, then in
// hex the run (4 bytes) and the nanoseconds since its start (7 bytes). It is text
// without special characters, so it survives being wrapped in JSON by the server.
const (
	stampMark = "tb"
	stampLen  = len(stampMark) + 2*(4+7)
)

// payload is a payload template taken apart: text, then a variable, and so on.
type payload struct {
	parts []part
	run   uint32
	start time.Time
}

type part struct {
	text     string
	variable string // that follows the text; empty at the end
}

// newPayload prepares the payload of one client.
func newPayload(c *Config, client string, n int, run uint32, start time.Time) *payload {
	p := &payload{run: run, start: start}
	template := expand(c.Payload, client, n)
	if c.Payload == "" {
		template = strings.Repeat("0123456789abcdef", c.PayloadLen/16+1)[:c.PayloadLen]
		if c.PayloadLen >= stampLen {
			template = "{stamp}" + template[stampLen:]
		}
	}
	for template != "" {
		at, name := len(template), ""
		for _, v := range []string{"{seq}", "{unixms}", "{unix}", "{stamp}"} {
			if i := strings.Index(template, v); i >= 0 && i < at {
				at, name = i, v
			}
		}
		p.parts = append(p.parts, part{template[:at], name})
		template = template[at+len(name):]
	}
	return p
}

// appendTo appends the payload of message seq, sent at now.
func (p *payload) appendTo(dst []byte, seq int, now time.Time) []byte {
	for i := range p.parts {
		dst = append(dst, p.parts[i].text...)
		switch p.parts[i].variable {
		case "{seq}":
			dst = strconv.AppendInt(dst, int64(seq), 10)
		case "{unix}":
			dst = strconv.AppendInt(dst, now.Unix(), 10)
		case "{unixms}":
			dst = strconv.AppendInt(dst, now.UnixMilli(), 10)
		case "{stamp}":
			dst = appendStamp(dst, p.run, now.Sub(p.start))
		}
	}
	return dst
}

func appendStamp(dst []byte, run uint32, at time.Duration) []byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[4:], uint64(at))
	binary.BigEndian.PutUint32(b[1:], run) // over the highest byte of the time, which is 0
	return hex.AppendEncode(append(dst, stampMark...), b[1:])
}

// findStamp looks for a stamp of the run anywhere in a payload.
func findStamp(b []byte, run uint32) (at time.Duration, ok bool) {
	for {
		i := bytes.Index(b, []byte(stampMark))
		if i < 0 || len(b)-i < stampLen {
			return 0, false
		}
		b = b[i+len(stampMark):]
		var d [12]byte
		if _, err := hex.Decode(d[1:], b[:stampLen-len(stampMark)]); err == nil && binary.BigEndian.Uint32(d[1:]) == run {
			d[4] = 0
			return time.Duration(binary.BigEndian.Uint64(d[4:])), true
		}
	}
}
