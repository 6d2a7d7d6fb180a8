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

// digest is the key of credentials in a cache. It is an HMAC with a secret of the process, so
// that leaked memory does not reveal the credentials.
type digest [sha256.Size]byte

// digester computes digests. It is safe for concurrent use.
type digester struct{ states sync.Pool } // of *digestState

type digestState struct {
	mac hash.Hash
	buf []byte
}

func newDigester() *digester {
	var secret [32]byte
	rand.Read(secret[:]) // never returns an error
	d := new(digester)
	d.states.New = func() any { return &digestState{mac: hmac.New(sha256.New, secret[:])} }
	return d
}

// sum returns the digest of a list. Different lists have different digests.
func (d *digester) sum(parts ...string) (out digest) {
	s := d.states.Get().(*digestState)
	for _, p := range parts {
		s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(p)))
		s.buf = append(s.buf, p...)
	}
	s.mac.Reset()
	s.mac.Write(s.buf)
	clear(s.buf) // it holds credentials
	s.buf = s.mac.Sum(s.buf[:0])
	copy(out[:], s.buf)
	s.buf = s.buf[:0]
	d.states.Put(s)
	return out
}

// cache holds decisions until they expire. If it has most entries, a new one replaces an
// expired one, or else any other. It is safe for concurrent use.
type cache[V any] struct {
	most int
	now  func() time.Time
	hits atomic.Uint64

	mu      sync.Mutex
	entries map[digest]remembered[V]
	changes uint64 // counts the calls of drop
}

type remembered[V any] struct {
	value V
	until time.Time
}

func newCache[V any](most int, now func() time.Time) *cache[V] {
	return &cache[V]{most: most, now: now, entries: map[digest]remembered[V]{}}
}

// get returns a cached value, and a mark for put.
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

// put caches a value, unless drop was called after get returned the mark: then the value may
// be older than the change that drop was called for.
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

// makeRoom deletes an expired entry if one is among a few random ones, else one of these.
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

// drop deletes every value for which fn returns true.
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
