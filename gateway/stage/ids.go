package stage

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// IDs makes unique event ids of the shape of a UUIDv7: milliseconds, a counter,
// and 40 random bits that were drawn when it was made, which keep ids unique over
// restarts and between listeners without a random number each. It is safe for
// concurrent use.
type IDs struct {
	boot    uint64 // 40 bits
	counter atomic.Uint64
}

// NewIDs returns a source of ids.
func NewIDs() *IDs {
	var b [8]byte
	rand.Read(b[3:]) // never fails
	return &IDs{boot: binary.BigEndian.Uint64(b[:])}
}

// Next returns a new id.
func (g *IDs) Next(now time.Time) string {
	n := g.counter.Add(1) // its low 34 bits: 12 behind the time, 22 before the random ones
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16|0x7000|n>>22&0xFFF)
	binary.BigEndian.PutUint64(b[8:], 1<<63|n&0x3FFFFF<<40|g.boot)
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
