package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

// digest stands for credentials in a cache. It is keyed with a secret of the
// process, so that memory that leaks tells nothing about them.
type digest [sha256.Size]byte

// digester makes digests. It is safe for concurrent use.
type digester struct{ states sync.Pool } // of *digestState

type digestState struct {
	mac hash.Hash
	buf []byte
}

func newDigester() *digester {
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	d := new(digester)
	d.states.New = func() any { return &digestState{mac: hmac.New(sha256.New, secret[:])} }
	return d
}

// sum returns the digest of a list; no two lists have the same.
func (d *digester) sum(parts ...string) (out digest) {
	s := d.states.Get().(*digestState)
	for _, p := range parts {
		s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(p)))
		s.buf = append(s.buf, p...)
	}
	s.mac.Reset()
	s.mac.Write(s.buf)
	clear(s.buf) // of credentials
	s.buf = s.mac.Sum(s.buf[:0])
	copy(out[:], s.buf)
	s.buf = s.buf[:0]
	d.states.Put(s)
	return out
}

// cache remembers decisions for a while. It holds so many entries at most; a new
// one pushes an expired or else any other one out. Safe for concurrent use.
type cache[V any] struct {
	most int
	now  func() time.Time
	hits atomic.Uint64

	mu      sync.Mutex
	entries map[digest]remembered[V]
	changes uint64 // how often something was dropped
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newCache[V any](most int, now func() time.Time) *cache[V] {
	return &cache[V]{most: most, now: now, entries: map[digest]remembered[V]{}}
}

// get returns what is remembered, and a mark for put.
func (c *cache[V]) get(key digest) (v V, ok bool, mark uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if ok && c.now().Before(e.until) {
		c.hits.Add(1)
		return e.value, true, c.changes
	}
	delete(c.entries, key)
	return v, false, c.changes
}

// put remembers a value, unless something was dropped since the mark: then the
// value may be from before the change.
func (c *cache[V]) put(key digest, mark uint64, v V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if !now.Before(until) || mark != c.changes {
		return
	}
	if _, there := c.entries[key]; !there && len(c.entries) >= c.most {
		c.makeRoom(now)
	}
	c.entries[key] = remembered[V]{v, until}
}

// makeRoom looks at a few entries, in no order, for one that is of no more use.
func (c *cache[V]) makeRoom(now time.Time) {
	looked := 0
	var last digest
	for k, e := range c.entries {
		last = k
		if looked++; !now.Before(e.until) || looked == 8 {
			break
		}
	}
	delete(c.entries, last)
}

// drop forgets every value that fn chooses.
func (c *cache[V]) drop(fn func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	for k, e := range c.entries {
		if fn(e.value) {
			delete(c.entries, k)
		}
	}
}
