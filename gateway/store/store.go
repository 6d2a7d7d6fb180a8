// Package store is the contract of Tributary's durable store: logs that are
// read by offset, and keys with revisions, changed together in one atomic
// commit. Implementations live in sub-packages and pass storetest. It imports
// nothing of ours; router, consumer and server import it.
package store

import (
	"errors"
	"slices"
	"time"
)

// Log names an append-only sequence of records, read by offset from 0.
type Log string

// Events is the log of an application's events.
func Events(application string) Log { return Log("e/" + application) }

// Quarantine is the log of an application's events that no plugin could handle.
func Quarantine(application string) Log { return Log("q/" + application) }

// Kind separates the key spaces.
type Kind byte

// The kinds of keys. The letter is the prefix of the key on disk.
const (
	State  Kind = 's' // a plugin's state: "<application>\x00<plugin>\x00<key>"
	Cursor Kind = 'c' // a group's position: "<application>\x00<group>"
	Queue  Kind = 'd' // downlink queue entries
	Timer  Kind = 't' // timers of plugins
	Call   Kind = 'h' // outbound HTTP calls of plugins
	File   Kind = 'f' // records of the files of plugins
	Sess   Kind = 'm' // MQTT sessions and retained messages
	Meta   Kind = 'x' // the registry and the store's own facts
)

// Key is a name in a key space. A name is any bytes; scans order by them.
type Key struct {
	Kind Kind
	Name string
}

// Revision says which write a key's value came from. 0 means that the key is
// absent. A later write to a key always has a greater revision, also after a
// delete and a restart.
type Revision uint64

// Append is one record for a log.
type Append struct {
	Log    Log
	Record []byte
	Time   time.Time // commit time as the caller knows it; orders OffsetAt and retention by age
	Offset uint64    // set by Commit
}

// Put writes a key.
type Put struct {
	Key   Key
	Value []byte
	// Expires is when the key vanishes by itself; zero is never. An expired key
	// is absent for Get, Scan and Expect from that moment on.
	Expires time.Time
}

// Expect makes a commit fail with ErrConflict unless the key still has the revision.
type Expect struct {
	Key      Key
	Revision Revision
}

// Range is the names of a kind from From up to, but not including, To; an empty
// To is the end of the kind.
type Range struct {
	Kind     Kind
	From, To string
}

// Prefix is the range of the names that begin with prefix.
func Prefix(kind Kind, prefix string) Range {
	end := []byte(prefix)
	for len(end) > 0 {
		if end[len(end)-1]++; end[len(end)-1] != 0 {
			break
		}
		end = end[:len(end)-1]
	}
	return Range{Kind: kind, From: prefix, To: string(end)}
}

// Has says whether a name is in the range.
func (r Range) Has(name string) bool { return name >= r.From && (r.To == "" || name < r.To) }

// ExpectRange makes a commit fail with ErrConflict unless the range holds
// exactly these keys, in the order of their names, each at its revision: none
// was added, written, deleted, or has expired.
type ExpectRange struct {
	Range Range
	Keys  []Found
}

// Found is a key that was found in a range.
type Found struct {
	Name     string
	Revision Revision
}

// Batch is what one commit does: appends, then puts, then deletes, each in
// order. The store keeps no reference to its byte slices after Commit returns. What
// is used again must be emptied by Reset.
type Batch struct {
	Expect       []Expect
	ExpectRanges []ExpectRange
	Appends      []Append
	Puts         []Put
	Deletes      []Key

	seen written
}

// written are the keys of a large batch's writes, so that Put, Delete and Written
// need not look through all of them. It covers the first puts and deletes of the
// batch, and may hold keys that have left it.
type written struct {
	keys          map[Key]struct{}
	puts, deletes int
}

// searched is how many writes are looked through one by one.
const searched = 64

// Reset empties the batch for use again; it keeps its memory.
func (b *Batch) Reset() {
	b.Expect, b.ExpectRanges, b.Appends, b.Puts, b.Deletes = b.Expect[:0], b.ExpectRanges[:0], b.Appends[:0], b.Puts[:0], b.Deletes[:0]
	b.seen = written{}
}

// mayWrite says whether it is worth while to look for a key.
func (b *Batch) mayWrite(k Key) bool {
	if len(b.Puts)+len(b.Deletes) < searched {
		return true
	}
	s := &b.seen
	if s.keys == nil {
		s.keys = make(map[Key]struct{}, 2*searched)
	}
	for ; s.puts < len(b.Puts); s.puts++ {
		s.keys[b.Puts[s.puts].Key] = struct{}{}
	}
	for ; s.deletes < len(b.Deletes); s.deletes++ {
		s.keys[b.Deletes[s.deletes]] = struct{}{}
	}
	_, ok := s.keys[k]
	return ok
}

// Put adds a write. Earlier writes to the key leave the batch, so that the last
// one counts.
func (b *Batch) Put(p Put) {
	b.forget(p.Key)
	b.Puts = append(b.Puts, p)
}

// Delete adds a deletion in the same way.
func (b *Batch) Delete(k Key) {
	b.forget(k)
	b.Deletes = append(b.Deletes, k)
}

func (b *Batch) forget(k Key) {
	if !b.mayWrite(k) {
		return
	}
	b.Puts = slices.DeleteFunc(b.Puts, func(p Put) bool { return p.Key == k })
	b.Deletes = slices.DeleteFunc(b.Deletes, func(d Key) bool { return d == k })
	if b.seen.puts, b.seen.deletes = len(b.Puts), len(b.Deletes); b.seen.puts+b.seen.deletes < searched {
		b.seen = written{} // it may not have covered them all
	}
}

// Written returns what the batch writes to a key, nil where it deletes it;
// written is false when it does neither.
func (b *Batch) Written(k Key) (p *Put, written bool) {
	if !b.mayWrite(k) {
		return nil, false
	}
	if slices.Contains(b.Deletes, k) {
		return nil, true
	}
	for i := len(b.Puts) - 1; i >= 0; i-- {
		if b.Puts[i].Key == k {
			return &b.Puts[i], true
		}
	}
	return nil, false
}

// Store is a durable store. All methods are safe for concurrent use.
//
// Commit checks and applies a batch at once, in the order of the calls: when it
// returns nil, Get and Scan see it and later commits are checked against it. It
// is durable when done is called with nil: then it survives a power cut. Many
// commits share one fsync; commits become durable in the order they were made,
// never a later without an earlier. done runs on a goroutine of the store, in
// order, must not block, and may call Commit. When the store cannot keep up,
// Commit blocks; when writing fails, done gets the error, the store refuses
// everything after it with ErrFailed, and nothing that was applied but not
// durable may be trusted.
//
// Commit returns ErrConflict (nothing done, done never called) when an Expect or
// ExpectRange does not hold, and ErrClosed after Close.
//
// Read calls fn for the durable records of a log from offset from on, in order,
// until limit records were given, fn returns false, or the log ends. A from
// before the oldest record that is kept starts at the oldest. The record is
// valid only during the call. A damaged record is an error that wraps
// ErrCorrupt, never skipped.
type Store interface {
	Commit(b *Batch, done func(error)) error
	Get(k Key) ([]byte, Revision, error) // absent: nil, 0, nil
	// Scan calls fn for the keys of a kind whose names have the prefix, in order of
	// names and as they were at the time of the call, until fn returns false. fn
	// may keep the value.
	Scan(kind Kind, prefix string, fn func(name string, value []byte, rev Revision) bool) error
	// ScanRange is Scan of a range.
	ScanRange(r Range, fn func(name string, value []byte, rev Revision) bool) error
	Read(l Log, from uint64, limit int, fn func(offset uint64, t time.Time, record []byte) bool) error
	// Bounds returns the oldest kept offset and the next one to be written, durable
	// records only; equal means empty.
	Bounds(l Log) (first, next uint64, err error)
	// OffsetAt returns the offset of the first record at or after t, or next.
	OffsetAt(l Log, t time.Time) (uint64, error)
	// Watch calls fn after every growth of the log with the new next offset, on a
	// goroutine of the store; fn must not block. After stop no call begins.
	Watch(l Log, fn func(next uint64)) (stop func())
	// Retain sets a log's retention by age and by the bytes of its records; zero
	// means no bound. It is applied soon, in whole ranges, and again as the log
	// grows, with some slack; it is not remembered over restarts.
	Retain(l Log, age time.Duration, bytes int64) error
	// Close makes every commit that was accepted durable, runs its callback, then
	// closes; not to be called from a callback.
	Close() error
}

// The errors that callers branch on.
var (
	ErrConflict = errors.New("a key changed since it was read")
	ErrClosed   = errors.New("the store is closed")
	ErrFailed   = errors.New("the store failed and refuses writes; see the first error in the log, then restart")
	ErrCorrupt  = errors.New("stored data is damaged")
)
