package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"sync"
	"time"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/store"
)

// The key spaces on disk. Numbers are big-endian, so that keys sort by them.
const (
	spaceRevision = 0x01 // → the revision of the newest commit
	spaceFloor    = 0x02 // length(2) log → what retention left behind
	spaceLog      = 0x03 // length(2) log offset(8) → record
	spaceKey      = 0x04 // kind name → value
	spaceExpiry   = 0x05 // time(8) kind name → nothing; finds what to sweep
)

// Values on disk start with a CRC-32C over all that follows and the key, so
// that no value can pass for another's.
//
//	record: crc(4) time(8) latest(8) total(8) data
//	value:  crc(4) revision(8) expires(8) data
//	floor:  crc(4) first(8) total(8) latest(8)
//
// latest is the greatest time up to this record and total the bytes of all
// records up to it. Both only grow with the offset, which makes finding by time
// and by size a binary search without an index.
const (
	recordHeader = 28
	valueHeader  = 20
	floorLen     = 28
	revisionLen  = 12
	witnessLen   = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logPrefix is the key of a log's records without the offset. The length in front keeps the
// keys of logs apart, also if a name contains any bytes.
func logPrefix(space byte, l store.Log) []byte {
	k := make([]byte, 0, 3+len(l)+8)
	k = append(k, space)
	k = binary.BigEndian.AppendUint16(k, uint16(len(l)))
	return append(k, l...)
}

// logOf returns the log that a key of spaceLog or spaceFloor belongs to.
func logOf(key []byte) (store.Log, error) {
	if len(key) < 3 {
		return "", fmt.Errorf("%w: key %x is too short", store.ErrCorrupt, key)
	}
	n := int(binary.BigEndian.Uint16(key[1:]))
	if len(key) < 3+n {
		return "", fmt.Errorf("%w: key %x is too short", store.ErrCorrupt, key)
	}
	return store.Log(key[3 : 3+n]), nil
}

func appendKey(dst []byte, k store.Key) []byte {
	dst = append(dst, spaceKey, byte(k.Kind))
	return append(dst, k.Name...)
}

// checksum covers data, which may be long and is summed outside the lock, then
// the key and the header behind its crc.
func checksum(dataSum uint32, key, header []byte) uint32 {
	return crc32.Update(crc32.Update(dataSum, castagnoli, key), castagnoli, header)
}

func sumOf(data []byte) uint32 { return crc32.Update(0, castagnoli, data) }

func intact(key, value []byte, header int) bool {
	return len(value) >= header &&
		binary.BigEndian.Uint32(value) == checksum(sumOf(value[header:]), key, value[4:header])
}

// putHeader writes up to three numbers behind the crc, then the crc.
func putHeader(key, value []byte, dataSum uint32, numbers ...uint64) {
	at := 4
	for _, n := range numbers {
		binary.BigEndian.PutUint64(value[at:], n)
		at += 8
	}
	binary.BigEndian.PutUint32(value, checksum(dataSum, key, value[4:at]))
}

func number(value []byte, i int) uint64 { return binary.BigEndian.Uint64(value[4+8*i:]) }

// record is a decoded record of a log.
type record struct {
	time   int64
	latest int64
	total  uint64
	data   []byte
}

func decodeRecord(key, value []byte) (record, error) {
	if !intact(key, value, recordHeader) {
		return record{}, fmt.Errorf("%w: record %x", store.ErrCorrupt, key)
	}
	return record{int64(number(value, 0)), int64(number(value, 1)), number(value, 2), value[recordHeader:]}, nil
}

// entry is a decoded value of a key.
type entry struct {
	rev     uint64
	expires int64 // Unix nanoseconds; 0 is never
	data    []byte
}

func decodeEntry(key, value []byte) (entry, error) {
	if !intact(key, value, valueHeader) {
		return entry{}, fmt.Errorf("%w: value of key %q", store.ErrCorrupt, key[1:])
	}
	return undamaged(value), nil
}

// undamaged decodes a value that was checked, or never left the memory.
func undamaged(value []byte) entry {
	return entry{number(value, 0), int64(number(value, 1)), value[valueHeader:]}
}

func (e entry) expired(now int64) bool { return e.expires != 0 && e.expires <= now }

// revision is the entry's revision as callers see it: 0 once it expired.
func (e entry) revision(now int64) uint64 {
	if e.expired(now) {
		return 0
	}
	return e.rev
}

// keyBuffers holds the keys of lookups outside the lock.
var keyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 128); return &b }}

// A witness is crc(4) revision(8), and since the second version manifest(8) length(8) and 8
// bytes for each log.
func encodeWitness(w witness) []byte {
	b := make([]byte, witnessLen+16+8*len(w.logs))
	for i, n := range append([]uint64{w.manifest, uint64(w.length)}, w.logs...) {
		binary.BigEndian.PutUint64(b[witnessLen+8*i:], n)
	}
	putHeader([]byte(witnessName), b, sumOf(b[witnessLen:]), w.revision)
	return b
}

func decodeWitness(b []byte) (w witness, ok bool) {
	if len(b) < witnessLen || !intact([]byte(witnessName), b, witnessLen) {
		return w, false
	}
	w.revision = number(b, 0)
	rest := b[witnessLen:]
	switch {
	case len(rest) == 0:
		return w, true
	case len(rest) < 16 || len(rest)%8 != 0:
		return w, false
	}
	w.manifest, w.length = binary.BigEndian.Uint64(rest), int64(binary.BigEndian.Uint64(rest[8:]))
	for rest = rest[16:]; len(rest) > 0; rest = rest[8:] {
		w.logs = append(w.logs, binary.BigEndian.Uint64(rest))
	}
	return w, true
}

// nanos is a time on disk: Unix nanoseconds, clamped to what they can say.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s > math.MaxInt64/int64(time.Second)-1:
		return math.MaxInt64
	case s < math.MinInt64/int64(time.Second)+1:
		return math.MinInt64
	}
	return t.UnixNano()
}

// expiry is an expiry on disk, where 0 is never.
func expiry(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if n := nanos(t); n > 0 {
		return n
	}
	return 1
}

// after is the first key that does not have the prefix; nil means the end.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// damaged marks pebble's corruption errors, and a file that is gone, as the
// contract's.
func damaged(err error) error {
	if err == nil || errors.Is(err, store.ErrCorrupt) {
		return err
	}
	if pebbledb.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return err
}
