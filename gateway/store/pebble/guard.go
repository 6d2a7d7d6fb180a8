package pebble

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system below pebble. pebble panics or exits the process
// when its log or manifest cannot be written. The guard never lets it see that:
// at the first failed write it freezes, which means that no later change
// reaches the disk and every one is said to have worked. What is on disk is then
// exactly what a crash at that moment would leave, which recovery is made for;
// the store looks at failure after each commit and never reports success again.
//
// Tables are an exception: one that is said to have been written, and was not, would take the
// place of what is in memory, and reads would fail. Whoever writes a table waits from then on
// until the store is closed. What is in memory stays there, and can be read.
//
// Until arm it holds removals back, so that a store that turns out to be damaged
// is left as it was found.
type guard struct {
	vfs.FS
	log    *slog.Logger
	frozen chan struct{} // closed by freeze
	ending chan struct{} // closed by end
	err    atomic.Pointer[error]
	armed  atomic.Bool

	// secure has the witness written. Before anything is removed the witness has to know
	// the MANIFEST that says it is not needed.
	secure func() error

	mu   sync.Mutex
	held []string // removals that wait

	manifestMu sync.Mutex
	now, known manifestState // what is durable of the MANIFEST, and what the witness knows
}

// manifestState is a MANIFEST and how many bytes of it are durable.
type manifestState struct {
	number uint64
	length int64
}

// follow begins with a MANIFEST that is there.
func (g *guard) follow(number uint64, length int64) {
	g.manifestMu.Lock()
	defer g.manifestMu.Unlock()
	g.now = manifestState{number, length}
}

// synced notes that so much of a file is durable, if it is a MANIFEST.
func (g *guard) synced(name string, length int64) {
	base := g.FS.PathBase(name)
	if !strings.HasPrefix(base, "MANIFEST-") {
		return
	}
	g.follow(fileNumber(base), length)
}

// manifest returns how much of the MANIFEST is durable. news says that the witness does not
// know it yet.
func (g *guard) manifest() (number uint64, length int64, news bool) {
	g.manifestMu.Lock()
	defer g.manifestMu.Unlock()
	return g.now.number, g.now.length, g.now != g.known
}

// witnessed notes what the witness knows.
func (g *guard) witnessed(number uint64, length int64) {
	g.manifestMu.Lock()
	defer g.manifestMu.Unlock()
	g.known = manifestState{number, length}
}

// secured says whether the witness knows all of the MANIFEST, after having it written if
// need be.
func (g *guard) secured() bool {
	if _, _, news := g.manifest(); !news {
		return true
	}
	if err := g.secure(); err != nil {
		g.log.Warn("store: the witness cannot be written; no file is removed until it can", "error", err)
		return false
	}
	return true
}

// retry does the removals that wait, if they may be done by now.
func (g *guard) retry() {
	g.mu.Lock()
	waiting := len(g.held) > 0 && g.armed.Load()
	g.mu.Unlock()
	if waiting && g.failure() == nil && g.secured() {
		if err := g.arm(); err != nil {
			g.log.Warn("store: files that are not needed cannot be removed", "error", err)
		}
	}
}

func newGuard(fs vfs.FS, log *slog.Logger) *guard {
	return &guard{FS: fs, log: log, frozen: make(chan struct{}), ending: make(chan struct{})}
}

// arm ends the time of opening: the removals that were held back are done.
func (g *guard) arm() error {
	if err := g.failure(); err != nil {
		return err
	}
	secured := g.secured()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed.Store(true)
	if !secured {
		return nil
	}
	for _, name := range g.held {
		if err := g.FS.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			g.log.Warn("removing an obsolete file of the store", "file", name, "error", err)
		}
	}
	g.held = nil
	return nil
}

// keep forgets a removal that was held back: the name is used anew.
func (g *guard) keep(name string) {
	if g.armed.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = slices.DeleteFunc(g.held, func(h string) bool { return h == name })
}

// failure is the error that froze the file system, or nil.
func (g *guard) failure() error {
	if e := g.err.Load(); e != nil {
		return *e
	}
	return nil
}

func (g *guard) freeze(err error) {
	if g.err.CompareAndSwap(nil, &err) {
		g.log.Error("store: writing failed; nothing is written any more: free the disk or replace it, then restart", "error", err)
		close(g.frozen)
	}
}

// end lets the writers of tables go on that wait since the freeze: the store is closed, and
// nothing reads it.
func (g *guard) end() { close(g.ending) }

// table says whether a file is a sorted table, or the file of a part of one.
func table(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// hold waits, if a table is written after the freeze, until the store is closed. A start goes
// on, and fails at its end.
func (g *guard) hold(name string) {
	if g.failure() != nil && table(name) && g.armed.Load() {
		<-g.ending
	}
}

// check freezes at an error; pebble is not to hear of it.
func (g *guard) check(op, name string, err error) {
	if err != nil {
		g.freeze(fmt.Errorf("%s %s: %w", op, name, err))
	}
}

func (g *guard) wrap(op, name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		g.check(op, name, err)
		return lostFile{}, nil
	}
	return &guardFile{File: f, g: g, name: name}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.hold(name)
	if g.failure() != nil {
		return lostFile{}, nil
	}
	g.keep(name)
	f, err := g.FS.Create(name, c)
	f, err = g.wrap("create", name, f, err)
	g.hold(name)
	return f, err
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if g.failure() != nil {
		return lostFile{}, nil
	}
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.wrap("open", name, f, err)
}

func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.failure() != nil {
		return lostFile{}, nil
	}
	g.keep(to)
	if !g.secured() { // it is still needed: a new file takes its place
		f, err := g.FS.Create(to, c)
		return g.wrap("create", to, f, err)
	}
	f, err := g.FS.ReuseForWrite(from, to, c)
	return g.wrap("reuse", from, f, err)
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardFile{File: f, g: g, name: name}, nil
}

func (g *guard) Rename(from, to string) error {
	if g.failure() != nil {
		return nil
	}
	g.keep(to)
	g.check("rename", from, g.FS.Rename(from, to))
	return nil
}

func (g *guard) Link(from, to string) error {
	if g.failure() != nil {
		return nil
	}
	g.check("link", from, g.FS.Link(from, to))
	return nil
}

func (g *guard) Remove(name string) error {
	if g.failure() != nil {
		return nil
	}
	if !g.armed.Load() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.armed.Load() {
			g.held = append(g.held, name)
			return nil
		}
	}
	if !g.secured() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.held = append(g.held, name)
		return nil
	}
	return g.FS.Remove(name)
}

func (g *guard) RemoveAll(name string) error {
	if g.failure() != nil {
		return nil
	}
	return g.FS.RemoveAll(name)
}

func (g *guard) Unwrap() vfs.FS { return g.FS }

// guardFile is a file that may be written.
type guardFile struct {
	vfs.File
	g       *guard
	name    string
	written int64 // bytes, from the beginning
}

func (f *guardFile) Write(p []byte) (int, error) {
	f.g.hold(f.name)
	if f.g.failure() != nil {
		return len(p), nil
	}
	n, err := f.File.Write(p)
	f.written += int64(n)
	f.g.check("write", f.name, err)
	f.g.hold(f.name)
	return len(p), nil
}

func (f *guardFile) WriteAt(p []byte, off int64) (int, error) {
	if f.g.failure() != nil {
		return len(p), nil
	}
	_, err := f.File.WriteAt(p, off)
	f.g.check("write", f.name, err)
	return len(p), nil
}

func (f *guardFile) Preallocate(off, n int64) error {
	if f.g.failure() != nil {
		return nil
	}
	return f.File.Preallocate(off, n) // advice: pebble ignores a failure
}

func (f *guardFile) Sync() error { return f.sync(f.File.Sync) }

func (f *guardFile) sync(do func() error) error {
	f.g.hold(f.name)
	if f.g.failure() != nil {
		return nil
	}
	err := do()
	f.g.check("sync", f.name, err)
	if err == nil {
		f.g.synced(f.name, f.written)
	}
	f.g.hold(f.name)
	return nil
}

func (f *guardFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *guardFile) SyncTo(n int64) (bool, error) {
	f.g.hold(f.name)
	if f.g.failure() != nil {
		return true, nil
	}
	full, err := f.File.SyncTo(n)
	f.g.check("sync", f.name, err)
	return full, nil
}

// lostFile takes what is written after the freeze.
type lostFile struct{}

func (lostFile) Close() error                           { return nil }
func (lostFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (lostFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (lostFile) Write(p []byte) (int, error)            { return len(p), nil }
func (lostFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (lostFile) Preallocate(int64, int64) error         { return nil }
func (lostFile) Prefetch(int64, int64) error            { return nil }
func (lostFile) Stat() (vfs.FileInfo, error)            { return lostInfo{}, nil }
func (lostFile) Sync() error                            { return nil }
func (lostFile) SyncData() error                        { return nil }
func (lostFile) SyncTo(int64) (bool, error)             { return true, nil }
func (lostFile) Fd() uintptr                            { return vfs.InvalidFd }

type lostInfo struct{}

func (lostInfo) Name() string           { return "lost" }
func (lostInfo) Size() int64            { return 0 }
func (lostInfo) Mode() os.FileMode      { return 0o600 }
func (lostInfo) ModTime() time.Time     { return time.Time{} }
func (lostInfo) IsDir() bool            { return false }
func (lostInfo) Sys() any               { return nil }
func (lostInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
