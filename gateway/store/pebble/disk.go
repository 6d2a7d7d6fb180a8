package pebble

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is a simulated disk in memory for tests of what holds on to a store: its
// power can be cut, also while it is slow to sync. The stores on it may be used
// by several goroutines, Hold and Cut by one at a time.
type Disk struct{ fs *slowFS }

// NewDisk returns an empty disk.
func NewDisk() *Disk { return newDisk(vfs.NewCrashableMem()) }

func newDisk(fs *vfs.MemFS) *Disk { return &Disk{&slowFS{MemFS: fs}} }

// memConfig has everything small, so that flushes and compactions happen in
// the few commits of a test.
func memConfig() Config {
	return Config{Dir: "data/store", CacheBytes: 1 << 20, MemTableBytes: 1 << 20, MaxPendingBytes: 64 << 10, MaxPendingCommits: 64}
}

// Open opens the store on the disk with small settings.
func (d *Disk) Open(log *slog.Logger) (*Store, error) {
	return openWith(memConfig(), log, environment{fs: d.fs, now: time.Now, every: 10 * time.Millisecond})
}

// Hold has every sync wait, until it is told false. Once it returns nothing more
// becomes durable: the moment between a commit and its sync, which in memory is too
// short for a cut to fall into, lasts.
func (d *Disk) Hold(on bool) { d.fs.hold(on) }

// Cut is the disk that a power cut of this moment leaves: what was synced, and
// each block of what was not with a probability of unsynced percent. The store
// on d goes on unharmed, and its syncs are held no longer.
func (d *Disk) Cut(unsynced int, rnd *rand.Rand) *Disk {
	defer d.Hold(false)
	return newDisk(d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rnd}))
}

// slowFS is a file system whose syncs can be held.
type slowFS struct {
	*vfs.MemFS
	syncs sync.RWMutex // read by those under way, and held by hold
	held  bool
}

func (s *slowFS) hold(on bool) {
	switch {
	case on && !s.held:
		s.syncs.Lock()
	case !on && s.held:
		s.syncs.Unlock()
	}
	s.held = on
}

func (s *slowFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

func (s *slowFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(s.MemFS.Create(name, c))
}

func (s *slowFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.wrap(s.MemFS.OpenReadWrite(name, c, opts...))
}

func (s *slowFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(s.MemFS.ReuseForWrite(from, to, c))
}

func (s *slowFS) OpenDir(name string) (vfs.File, error) { return s.wrap(s.MemFS.OpenDir(name)) }

// slowFile is a file that may be written.
type slowFile struct {
	vfs.File
	fs *slowFS
}

func (f *slowFile) Sync() error {
	f.fs.syncs.RLock()
	defer f.fs.syncs.RUnlock()
	return f.File.Sync()
}

func (f *slowFile) SyncData() error { return f.Sync() }
