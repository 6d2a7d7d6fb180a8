// Package pebble is the embedded store: the contract of package store on
// cockroachdb/pebble, with group commit. It imports store, stage and pebble;
// only server and tests import it.
//
// One goroutine, the committer, takes what Commit collected in the meantime and
// writes it as one pebble batch with one fsync; another, the notifier, then runs
// the done callbacks and the watchers while the next fsync is under way; a third
// keeps house (expiry, retention, the witness); a fourth reads the files again and again to
// find damage.
package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pebbledb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// Config is what users set.
type Config struct {
	// Dir is the directory of the store; made when absent. One process at a time.
	Dir string `koanf:"dir"`
	// CacheBytes bounds the memory for blocks read from disk.
	CacheBytes int64 `koanf:"cache_bytes"`
	// MemTableBytes is the size at which what is in memory is sorted to disk. Up
	// to four of them exist at once when the disk falls behind.
	MemTableBytes int64 `koanf:"memtable_bytes"`
	// MaxPendingBytes and MaxPendingCommits bound what waits for one fsync;
	// Commit blocks beyond them.
	MaxPendingBytes   int64 `koanf:"max_pending_bytes"`
	MaxPendingCommits int   `koanf:"max_pending_commits"`
	// ScrubRate is how many bytes of the tables are read in a second to look for damage;
	// 0 turns that off. ScrubPause is the time between two rounds over all of them.
	ScrubRate  int64         `koanf:"scrub_bytes"`
	ScrubPause time.Duration `koanf:"scrub_pause"`
}

// Default returns the settings for a small machine.
func Default() Config {
	return Config{
		Dir:               "data/store",
		CacheBytes:        64 << 20,
		MemTableBytes:     32 << 20,
		MaxPendingBytes:   4 << 20,
		MaxPendingCommits: 8192,
		ScrubRate:         4 << 20,
		ScrubPause:        24 * time.Hour,
	}
}

// Validate reports the first impossible setting.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("dir is empty: name the directory of the store")
	case c.CacheBytes < 1<<20:
		return fmt.Errorf("cache_bytes is %d: set at least %d", c.CacheBytes, 1<<20)
	case c.MemTableBytes < 1<<20 || c.MemTableBytes > 1<<30:
		return fmt.Errorf("memtable_bytes is %d: set %d to %d", c.MemTableBytes, 1<<20, 1<<30)
	case c.MaxPendingBytes < 64<<10 || c.MaxPendingBytes > c.MemTableBytes/4:
		return fmt.Errorf("max_pending_bytes is %d: set %d to a quarter of memtable_bytes (%d)", c.MaxPendingBytes, 64<<10, c.MemTableBytes/4)
	case c.MaxPendingCommits < 1:
		return fmt.Errorf("max_pending_commits is %d: set at least 1", c.MaxPendingCommits)
	case c.ScrubRate != 0 && (c.ScrubRate < 64<<10 || c.ScrubRate > 1<<40):
		return fmt.Errorf("scrub_bytes is %d: set %d to %d bytes a second, or 0 to turn the scrub off", c.ScrubRate, 64<<10, 1<<40)
	case c.ScrubRate != 0 && c.ScrubPause < time.Second:
		return fmt.Errorf("scrub_pause is %v: set at least 1s, or scrub_bytes = 0 to turn the scrub off", c.ScrubPause)
	}
	return nil
}

// Store is a store.Store in a directory.
type Store struct {
	cfg  Config
	log  *slog.Logger
	env  environment
	fs   *guard
	lock *pebbledb.Lock
	db   *pebbledb.DB

	readers gate // the readers inside db; Close waits for them

	mu      sync.Mutex
	room    sync.Cond // the open group has room, or err is set
	work    sync.Cond // the open group has work, or closing
	told    sync.Cond // finished has groups, or noMore
	err     error     // why Commit refuses: ErrClosed or ErrFailed
	closing bool
	noMore  bool // the committer is gone
	rev     uint64
	open    *group
	free    []*group
	// finished are groups whose callbacks are due. The committer never waits for
	// the notifier: a callback that waits for room in Commit needs it to go on.
	finished []*group
	overlay  map[string]pending
	logs     map[store.Log]*logState
	key      []byte // scratch

	dropped atomic.Uint64 // groups whose overlay entries are gone
	durable atomic.Uint64 // the revision that is on disk
	stats   stats
	damage  damages

	witnessed atomic.Uint64 // the revision in the witness file
	witnessMu sync.Mutex    // held while it is written

	kick      chan struct{}
	stop      chan struct{}
	loops     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// environment holds what tests replace.
type environment struct {
	fs    vfs.FS
	now   func() time.Time
	every time.Duration // of the housekeeping
}

// Open opens the store in cfg.Dir, makes it when there is none, and starts its
// goroutines; Close stops them. An error wraps store.ErrCorrupt when stored
// data is damaged or acknowledged commits are missing.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	return openWith(cfg, log, environment{fs: vfs.Default, now: time.Now, every: time.Second})
}

func openWith(cfg Config, log *slog.Logger, env environment) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{
		cfg: cfg, log: log, env: env,
		fs:      newGuard(env.fs, log),
		readers: gate{out: make(chan struct{})},
		overlay: make(map[string]pending),
		logs:    make(map[store.Log]*logState),
		kick:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	s.room.L, s.work.L, s.told.L = &s.mu, &s.mu, &s.mu
	s.fs.secure = s.writeWitness
	if err := makeDir(env.fs, cfg.Dir); err != nil {
		return nil, fmt.Errorf("making the store directory: %w", err)
	}
	lock, err := pebbledb.LockDirectory(cfg.Dir, env.fs)
	if err != nil {
		return nil, fmt.Errorf("store directory %s is in use by another process; stop it, or choose another directory with store.dir or "+
			"--data-dir: %w", cfg.Dir, err)
	}
	s.lock = lock
	err = s.openDB()
	if err != nil {
		if f := s.fs.failure(); f != nil { // the cause, which pebble did not hear of
			err = f
		}
		s.lock.Close()
		return nil, fmt.Errorf("opening the store in %s: %w", cfg.Dir, err)
	}
	s.open = s.newGroup()
	if cfg.ScrubRate > 0 {
		s.loops.Add(1)
		go s.scrubLoop()
	}
	s.loops.Add(3)
	go s.commitLoop()
	go s.notifyLoop()
	go s.tidyLoop()
	return s, nil
}

// openDB checks what is there against the witness, opens pebble, and reads what the store
// must know. Until the check is over nothing changes in the directory, and until all is read
// nothing is removed from it.
func (s *Store) openDB() (err error) {
	defer func() {
		// pebble panics at some kinds of damage, and if it cannot write.
		switch p := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("pebble: %w", damaged(p))
		default:
			err = fmt.Errorf("%w: pebble: %v", store.ErrCorrupt, p)
		}
	}()
	if err = s.inspect(); err != nil {
		return err
	}
	s.db, err = pebbledb.Open(s.cfg.Dir, s.options())
	if err != nil {
		return damaged(err)
	}
	if err = s.recover(); err == nil {
		err = s.fs.arm()
	}
	if err != nil {
		s.fs.end()
		s.db.Close()
	}
	return err
}

func (s *Store) recover() error {
	if err := s.loadRevision(); err != nil {
		return err
	}
	return s.loadLogs()
}

func (s *Store) options() *pebbledb.Options {
	o := &pebbledb.Options{
		FS:                          s.fs,
		Lock:                        s.lock,
		CacheSize:                   s.cfg.CacheBytes,
		MemTableSize:                uint64(s.cfg.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		FormatMajorVersion:          pebbledb.FormatValueSeparation,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:       10 * time.Second,
		Logger:                      dbLogger{s},
		EventListener:               s.listener(),
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// Close makes every accepted commit durable, runs its callbacks, and closes.
// It must not be called from a callback, nor from within Read or Scan.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.mu.Lock()
	s.closing = true
	if s.err == nil {
		s.err = store.ErrClosed
	}
	s.room.Broadcast()
	s.work.Signal()
	s.mu.Unlock()
	close(s.stop)
	s.fs.end()
	s.loops.Wait()
	s.readers.close()

	var err error
	if s.fs.failure() == nil {
		// Sorted tables carry a checksum per block, the end of a log cannot: a
		// store that was closed has no log to lose.
		err = s.db.Flush()
	}
	if err == nil {
		err = s.writeWitness()
	}
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	if cerr := s.lock.Close(); err == nil {
		err = cerr
	}
	if f := s.fs.failure(); f != nil {
		err = fmt.Errorf("%w: %w", store.ErrFailed, f)
	}
	if err != nil {
		return fmt.Errorf("closing the store in %s: %w", s.cfg.Dir, err)
	}
	return nil
}
