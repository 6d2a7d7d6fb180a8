package plugin

import (
	"encoding/binary"
	"slices"
)

// Results of state_get and state_scan that are no length.
const (
	stateAbsent  = -1
	stateRefused = -2 // not granted, or more than an event may read
)

// What one event may read. A scan also costs the store more than a read, so the
// calls are counted, too.
const (
	maxKeyBytes  = 1024
	maxReads     = 4096     // keys by state_get
	maxReadBytes = 16 << 20 // their values, which are kept until the event is over, and what scans found
	maxScans     = 64       // calls of state_scan
	maxScanned   = 4096     // keys by state_scan
)

// manyReads is from how many keys on an index finds them: most events read a few.
const manyReads = 32

// stateGet is state_get(key_ptr, key_len, buf_ptr, buf_cap) → i64. Within one
// event a key is read once, so that the guest sees one state.
func stateGet(in *instance, stack []uint64) {
	in.pay(readFuel)
	key := in.guestBytes(stack[0], stack[1])
	buf := in.guestBytes(stack[2], stack[3])
	if !in.mayRead() || len(key) == 0 || len(key) > maxKeyBytes {
		stack[0] = signed(stateRefused)
		return
	}
	value, ok := in.readState(string(key))
	switch {
	case !ok:
		stack[0] = signed(stateRefused)
	case value == nil:
		stack[0] = signed(stateAbsent)
	default:
		if len(value) <= len(buf) {
			in.pay(len(value) >> copyShift)
			copy(buf, value)
		}
		stack[0] = uint64(len(value))
	}
}

func (in *instance) mayRead() bool { return in.p.grant.StateBytes > 0 && in.call.state != nil }

// readState returns a key's value and notes the read. An error of the store
// ends the guest's call: it is not the guest's fault and must not look like an
// absent key.
func (in *instance) readState(key string) (value []byte, ok bool) {
	if i, known := in.call.lookUp(key); known {
		return in.call.values[i], true
	}
	if len(in.call.keys) == maxReads {
		return nil, false
	}
	value, err := in.call.state.Get(key)
	if err != nil {
		panic(stateError{err})
	}
	if in.call.read += len(value); in.call.read > maxReadBytes {
		return nil, false
	}
	in.call.note(key, value)
	return value, true
}

// lookUp finds a key that was read before.
func (c *call) lookUp(key string) (i int, known bool) {
	if c.index != nil {
		i, known = c.index[key]
		return i, known
	}
	i = slices.Index(c.keys, key)
	return i, i >= 0
}

// note keeps what was read.
func (c *call) note(key string, value []byte) {
	c.keys = append(c.keys, key)
	c.values = append(c.values, value)
	if c.index == nil && len(c.keys) >= manyReads {
		c.index = make(map[string]int, 4*manyReads)
		for i, k := range c.keys {
			c.index[k] = i
		}
	}
	if c.index != nil {
		c.index[key] = len(c.keys) - 1
	}
}

// stateScan is state_scan(prefix_ptr, prefix_len, after_ptr, after_len, limit,
// buf_ptr, buf_cap) → i64.
func stateScan(in *instance, stack []uint64) {
	in.pay(scanFuel)
	prefix, after := in.guestBytes(stack[0], stack[1]), in.guestBytes(stack[2], stack[3])
	limit := uint64(uint32(stack[4]))
	buf := in.guestBytes(stack[5], stack[6])
	left := maxScanned - in.call.scanned
	if !in.mayRead() || len(prefix) > maxKeyBytes || len(after) > maxKeyBytes || in.call.scans == maxScans || left == 0 ||
		in.call.read > maxReadBytes {
		stack[0] = signed(stateRefused)
		return
	}
	in.call.scans++
	if limit == 0 || limit > uint64(left) {
		limit = uint64(left)
	}
	stack[0] = in.scanState(string(prefix), string(after), int(limit), buf)
}

// scanState writes the entries of a scan to buf, as many whole ones as fit, and returns how
// many bytes they take. If not even the first fits, it returns how much room that one needs.
func (in *instance) scanState(prefix, after string, limit int, buf []byte) uint64 {
	used, need, before := 0, 0, in.call.scanned
	err := in.call.state.Scan(prefix, after, func(key string, value []byte) bool {
		size := entryHeader + len(key) + len(value)
		if limit == 0 || size > len(buf)-used {
			if used == 0 {
				need = size
			}
			return false
		}
		entry := binary.LittleEndian.AppendUint32(buf[used:used], uint32(len(key)))
		entry = binary.LittleEndian.AppendUint32(entry, uint32(len(value)))
		_ = append(append(entry, key...), value...)
		used += size
		in.call.read += size // the range is read again when it is committed
		limit--
		in.call.scanned++
		return true
	})
	if err != nil {
		panic(stateError{err})
	}
	in.pay((in.call.scanned-before)*keyFuel + used>>copyShift) // the calls and what they may find are bounded
	return uint64(max(used, need))
}

// entryHeader is the header of an entry of a scan: the lengths of key and value, four bytes
// each, the low one first.
const entryHeader = 8

// stateError carries an error of the state reader through the guest.
type stateError struct{ error }

func (e stateError) Unwrap() error { return e.error }
