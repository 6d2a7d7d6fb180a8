package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/store"
)

// group is the commits that one fsync makes durable: those that came while the one before was
// being written.
type group struct {
	seq     uint64
	batch   *pebbledb.Batch
	rev     uint64 // of its newest commit
	commits int
	done    []func(error)
	keys    []string // of its overlay entries
	grown   []growth
	err     error
}

type growth struct {
	log  *logState
	next uint64
}

// pending is a write that is not in pebble yet. It lives until its group is
// durable, unless a later group overwrites it.
type pending struct {
	value []byte // as on disk, in the memory of the group's batch; nil: deleted
	group uint64
}

func (s *Store) newGroup() *group {
	return &group{seq: 1, batch: s.db.NewBatch(pebbledb.WithInitialSizeBytes(64<<10), pebbledb.WithMaxRetainedSizeBytes(1<<20))}
}

func (s *Store) full() bool {
	return int64(s.open.batch.Len()) >= s.cfg.MaxPendingBytes || s.open.commits >= s.cfg.MaxPendingCommits
}

// Commit implements store.Store.
func (s *Store) Commit(b *store.Batch, done func(error)) error {
	if err := check(b); err != nil {
		return err
	}
	// What takes long is done outside the lock. The arrays keep usual batches off
	// the heap.
	var sumArray [8]uint32
	var revArray [4]uint64
	sums := checksums(sumArray[:0], b)
	dropped := s.dropped.Load()
	revs, err := s.storedAll(revArray[:0], b.Expect)
	if err != nil {
		return err
	}
	ranges, err := s.storedRanges(b.ExpectRanges)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitForRoom(); err != nil {
		return err
	}
	if err := s.verify(b.Expect, revs, dropped); err != nil {
		return err
	}
	if err := s.verifyRanges(b.ExpectRanges, ranges, dropped); err != nil {
		return err
	}
	s.enter(b, sums)
	if done != nil {
		s.open.done = append(s.open.done, done)
	}
	return nil
}

// waitForRoom returns when the open group takes another commit, or with the
// reason why none ever will. Under the lock.
func (s *Store) waitForRoom() error {
	for s.err == nil && s.full() {
		s.stats.waits.Add(1)
		s.room.Wait()
	}
	return s.err
}

// check refuses what does not fit the keys on disk.
func check(b *store.Batch) error {
	for i := range b.Appends {
		if n := len(b.Appends[i].Log); n == 0 || n > 1<<16-1 {
			return fmt.Errorf("append to a log whose name has %d bytes: give it 1 to 65535", n)
		}
	}
	return nil
}

// checksums sums the records, then the values.
func checksums(sums []uint32, b *store.Batch) []uint32 {
	for i := range b.Appends {
		sums = append(sums, sumOf(b.Appends[i].Record))
	}
	for i := range b.Puts {
		sums = append(sums, sumOf(b.Puts[i].Value))
	}
	return sums
}

// storedAll reads the revisions of the expected keys from pebble. For keys without an entry in
// the overlay they hold until a group is dropped from it.
func (s *Store) storedAll(revs []uint64, expect []store.Expect) ([]uint64, error) {
	if len(expect) == 0 {
		return revs, nil
	}
	if err := s.readers.enter(); err != nil {
		return nil, err
	}
	defer s.readers.leave()
	now := s.env.now().UnixNano()
	key := keyBuffers.Get().(*[]byte)
	defer keyBuffers.Put(key)
	for i := range expect {
		*key = appendKey((*key)[:0], expect[i].Key)
		rev, err := s.stored(*key, now)
		if err != nil {
			return nil, err
		}
		revs = append(revs, rev)
	}
	return revs, nil
}

// stored is the revision of a key as pebble has it; 0 when absent or expired.
func (s *Store) stored(key []byte, now int64) (uint64, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebbledb.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading key %q: %w", key[1:], damaged(err))
	}
	defer closer.Close()
	e, err := decodeEntry(key, value)
	return e.revision(now), err
}

// verify holds every Expect against the present. Under the lock.
func (s *Store) verify(expect []store.Expect, revs []uint64, dropped uint64) error {
	if len(expect) == 0 {
		return nil
	}
	now := s.env.now().UnixNano()
	fresh := dropped == s.dropped.Load()
	for i := range expect {
		s.key = appendKey(s.key[:0], expect[i].Key)
		rev := revs[i]
		if w, ok := s.overlay[string(s.key)]; ok {
			rev = 0
			if w.value != nil {
				rev = undamaged(w.value).revision(now)
			}
		} else if !fresh {
			var err error
			if rev, err = s.stored(s.key, now); err != nil {
				return err
			}
		}
		if store.Revision(rev) != expect[i].Revision {
			s.stats.conflicts.Add(1)
			return store.ErrConflict
		}
	}
	return nil
}

// enter writes the batch into the open group. Under the lock; cannot fail.
func (s *Store) enter(b *store.Batch, sums []uint32) {
	g := s.open
	s.begin(g)
	for i := range b.Appends {
		s.append(g, &b.Appends[i], sums[i])
	}
	for i := range b.Puts {
		s.put(g, &b.Puts[i], sums[len(b.Appends)+i])
	}
	for i := range b.Deletes {
		s.key = appendKey(s.key[:0], b.Deletes[i])
		s.remove(g, s.key)
	}
}

// begin counts one more commit in the open group. Under the lock.
func (s *Store) begin(g *group) {
	s.rev++
	g.rev = s.rev
	if g.commits++; g.commits == 1 {
		s.work.Signal()
	}
}

func (s *Store) append(g *group, a *store.Append, sum uint32) {
	l := s.logOf(a.Log)
	at := a.Time
	if at.IsZero() {
		at = s.env.now()
	}
	t := nanos(at)
	l.latest = max(l.latest, t)
	l.total += uint64(len(a.Record))
	a.Offset = l.next
	l.next++
	if l.group != g.seq {
		l.group = g.seq
		g.grown = append(g.grown, growth{log: l})
	}
	op := g.batch.SetDeferred(len(l.prefix)+8, recordHeader+len(a.Record))
	copy(op.Key, l.prefix)
	binary.BigEndian.PutUint64(op.Key[len(l.prefix):], a.Offset)
	copy(op.Value[recordHeader:], a.Record)
	putHeader(op.Key, op.Value[:recordHeader], sum, uint64(t), uint64(l.latest), l.total)
	op.Finish()
	s.stats.appended.Add(uint64(len(a.Record)))
}

func (s *Store) put(g *group, w *store.Put, sum uint32) {
	s.key = appendKey(s.key[:0], w.Key)
	expires := expiry(w.Expires)
	op := g.batch.SetDeferred(len(s.key), valueHeader+len(w.Value))
	copy(op.Key, s.key)
	copy(op.Value[valueHeader:], w.Value)
	putHeader(op.Key, op.Value[:valueHeader], sum, s.rev, uint64(expires))
	value := op.Value
	op.Finish()
	s.overlay[s.own(g)] = pending{value, g.seq}
	if expires != 0 {
		x := g.batch.SetDeferred(8+len(s.key), 0)
		putExpiryKey(x.Key, expires, s.key)
		x.Finish()
	}
}

func (s *Store) remove(g *group, key []byte) {
	op := g.batch.DeleteDeferred(len(key))
	copy(op.Key, key)
	op.Finish()
	s.overlay[s.own(g)] = pending{nil, g.seq}
}

// own makes s.key a key of the overlay that the group drops when it is durable.
func (s *Store) own(g *group) string {
	k := string(s.key)
	g.keys = append(g.keys, k)
	return k
}

// commitLoop is the committer.
func (s *Store) commitLoop() {
	defer s.loops.Done()
	for {
		s.mu.Lock()
		for s.open.commits == 0 && !s.closing {
			s.work.Wait()
		}
		if s.open.commits == 0 {
			s.noMore = true
			s.told.Signal()
			s.mu.Unlock()
			return
		}
		g := s.swap()
		s.mu.Unlock()
		s.finish(g, s.write(g))
	}
}

// swap takes the open group and opens the next. Under the lock.
func (s *Store) swap() *group {
	g := s.open
	for i := range g.grown {
		g.grown[i].next = g.grown[i].log.next
	}
	if n := len(s.free); n > 0 {
		s.open, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.open = s.newGroup()
	}
	s.open.seq = g.seq + 1
	s.room.Broadcast()
	return g
}

// write makes the group durable.
func (s *Store) write(g *group) error {
	if err := s.fs.failure(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrFailed, err)
	}
	if g.batch.Count() > 0 {
		op := g.batch.SetDeferred(1, revisionLen)
		op.Key[0] = spaceRevision
		putHeader(op.Key, op.Value, 0, g.rev)
		op.Finish()
		start := time.Now()
		err := s.db.Apply(g.batch, pebbledb.Sync)
		if f := s.fs.failure(); f != nil { // pebble may have been told otherwise
			err = f
		}
		if err != nil {
			s.fs.freeze(err)
			return fmt.Errorf("%w: %w", store.ErrFailed, err)
		}
		s.stats.sync.Observe(time.Since(start))
	} else {
		g.rev = s.durable.Load() // nothing says on disk that it was
	}
	s.stats.groups.Add(1)
	s.stats.commits.Add(uint64(g.commits))
	return nil
}

// finish lets the readers see the group, or everyone see the failure, and hands
// the group to the notifier.
func (s *Store) finish(g *group, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.err = err
	if err != nil {
		s.fail(err)
	} else {
		for _, k := range g.keys {
			if s.overlay[k].group == g.seq {
				delete(s.overlay, k)
			}
		}
		for _, grew := range g.grown {
			grew.log.durable = grew.next
		}
		s.dropped.Add(1)
		s.durable.Store(g.rev)
	}
	s.finished = append(s.finished, g)
	s.told.Signal()
}

// fail refuses every commit from now on. Under the lock.
func (s *Store) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.room.Broadcast()
}

// notifyLoop is the notifier.
func (s *Store) notifyLoop() {
	defer s.loops.Done()
	var watchers [][]*watcher
	for {
		s.mu.Lock()
		for len(s.finished) == 0 && !s.noMore {
			s.told.Wait()
		}
		if len(s.finished) == 0 {
			s.mu.Unlock()
			return
		}
		g := s.finished[0]
		s.finished = slices.Delete(s.finished, 0, 1)
		s.mu.Unlock()

		for _, done := range g.done {
			done(g.err)
		}
		if g.err == nil {
			watchers = s.tell(g, watchers[:0])
		}
		s.recycle(g)
	}
}

func (s *Store) recycle(g *group) {
	clear(g.done)
	clear(g.keys)
	clear(g.grown)
	g.batch.Reset()
	*g = group{batch: g.batch, done: g.done[:0], keys: g.keys[:0], grown: g.grown[:0]}
	s.mu.Lock()
	if len(s.free) < 16 { // each keeps at most 1 MiB
		s.free = append(s.free, g)
	}
	s.mu.Unlock()
}
