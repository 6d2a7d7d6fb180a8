package pebble

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// brokenFS fails every change from the n-th on, as a disk that fills or dies.
type brokenFS struct {
	vfs.FS
	left *atomic.Int64
	err  error
}

func (f brokenFS) fails() error {
	if f.left.Add(-1) < 0 {
		return f.err
	}
	return nil
}

func (f brokenFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return brokenFile{file, f}, err
}

func (f brokenFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(from, to, c)
	return brokenFile{file, f}, err
}

func (f brokenFS) Rename(from, to string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f brokenFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return brokenFile{file, f}, err
}

type brokenFile struct {
	vfs.File
	fs brokenFS
}

// Write writes half when it fails, as a full disk does.
func (f brokenFile) Write(p []byte) (int, error) {
	if err := f.fs.fails(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f brokenFile) Sync() error {
	if err := f.fs.fails(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f brokenFile) SyncData() error {
	if err := f.fs.fails(); err != nil {
		return err
	}
	return f.File.SyncData()
}

// TestWriteFailure breaks the disk at one write after another, flushes, log
// rotations and the manifest included: the commit under way and all later ones
// fail, nothing hangs or crashes, reads go on, and all that was acknowledged is there when
// the store is opened again, after a mere restart as after a power cut.
func TestWriteFailure(t *testing.T) {
	t.Parallel()
	step := int64(11)
	if testing.Short() {
		step = 41
	}
	for n := rand.Int64N(step); ; n += step {
		disk := vfs.NewCrashableMem()
		broken := brokenFS{disk, new(atomic.Int64), syscall.EIO}
		broken.left.Store(1 << 60)
		s := openMem(t, broken)
		broken.left.Store(n)
		acked, failed := commitUntilFailure(t, s, 1000)
		if got, err := readable(s); err != nil || got < acked { // until the end
			t.Errorf("write %d: %d commits of %d acknowledged are read after the failure, error %v", n, got, acked, err)
		}
		err := s.Close()
		if failed && !errors.Is(err, store.ErrFailed) || !failed && acked < 1000 {
			t.Fatalf("write %d: close: %v after %d commits, failed: %v", n, err, acked, failed)
		}
		for what, fs := range map[string]vfs.FS{"restart": disk, "power cut": disk.CrashClone(vfs.CrashCloneCfg{})} {
			s := openMem(t, fs)
			if got, err := found(t, s); err != nil || got < acked {
				t.Errorf("write %d, %s: %d commits of %d acknowledged, error %v", n, what, got, acked, err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("write %d, %s: close: %v", n, what, err)
			}
		}
		if err == nil {
			t.Logf("broke the disk at every %dth of %d writes", step, n)
			return
		}
		if t.Failed() {
			return
		}
	}
}

// readable returns how many records of the sequence can be read.
func readable(s *Store) (n int, err error) {
	for l := range sequenceLogs {
		err = errors.Join(err, s.Read(sequenceLog(l), 0, 1<<30, func(uint64, time.Time, []byte) bool { n++; return true }))
	}
	return n, err
}

// commitUntilFailure commits in order, a few at once, until the store fails or
// most commits are made.
func commitUntilFailure(t *testing.T, s *Store, most int) (acked int, failed bool) {
	window := make(chan struct{}, 16)
	var bad atomic.Bool
	n := 0
	for ; n < most; n++ {
		window <- struct{}{}
		err := s.Commit(sequence(n), func(err error) {
			switch {
			case err == nil && bad.Load():
				t.Error("a commit succeeded after one that failed")
			case err == nil:
				acked++
			case !errors.Is(err, store.ErrFailed) || !errors.Is(err, syscall.EIO):
				t.Errorf("done: %v", err)
			default:
				bad.Store(true)
			}
			<-window
		})
		if err != nil {
			<-window
			if !errors.Is(err, store.ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Errorf("commit: %v", err)
			}
			failed = true // but those before it may still succeed
			break
		}
	}
	for range cap(window) {
		window <- struct{}{}
	}
	return acked, failed || bad.Load()
}

// TestOpenFailure breaks the disk at the writes of opening a store that was
// killed: an error that says why, and nothing is lost.
func TestOpenFailure(t *testing.T) {
	t.Parallel()
	killed := testDisk(t, true)
	const step = 4
	for n := rand.Int64N(step); ; n += step {
		disk := killed.CrashClone(vfs.CrashCloneCfg{})
		broken := brokenFS{disk, new(atomic.Int64), syscall.ENOSPC}
		broken.left.Store(n)
		s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: broken, now: time.Now, every: time.Hour})
		opened := err == nil
		if opened {
			err = s.Close()
		}
		if err == nil {
			t.Logf("broke the disk at every %dth of %d writes", step, n)
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, store.ErrCorrupt) {
			t.Errorf("write %d: opened: %v, then %v; want no space left on device", n, opened, err)
		}
		s = openMem(t, disk)
		if got, err := found(t, s); err != nil || got != damageCommits {
			t.Errorf("write %d: %d commits of %d, error %v", n, got, damageCommits, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// scarceFS can open no witness while there is no file descriptor left.
type scarceFS struct {
	vfs.FS
	none  atomic.Bool
	asked atomic.Int64
}

func (f *scarceFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.none.Load() && strings.HasSuffix(name, witnessName+".new") {
		f.asked.Add(1)
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.Create(name, c)
}

// TestNoFileForTheWitness wants a moment without file descriptors to pass: nothing was
// lost in it.
func TestNoFileForTheWitness(t *testing.T) {
	fs := &scarceFS{FS: vfs.NewMem()}
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string) {
		t.Helper()
		done := make(chan error, 1)
		if err := s.Commit(&store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.Meta, Name: name}}}},
			func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	fs.none.Store(true)
	put("a")
	for fs.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	fs.none.Store(false)
	put("b")
	for s.witnessed.Load() != s.durable.Load() {
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What is in memory when the disk fails stays there: no table that was not written takes its
// place, however long the store is read.
func TestReadsAfterAFailureDuringAFlush(t *testing.T) {
	t.Parallel()
	broken := brokenFS{vfs.NewCrashableMem(), new(atomic.Int64), syscall.ENOSPC}
	broken.left.Store(1 << 60)
	s := openMem(t, broken)
	const commits = 200
	for n := range commits {
		if err := s.Commit(bulky(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := commitWait(s, &store.Batch{}); err != nil {
		t.Fatal(err)
	}
	broken.left.Store(0)
	if err := commitWait(s, bulky(commits)); !errors.Is(err, store.ErrFailed) {
		t.Fatalf("a commit on a full disk: %v", err)
	}
	if _, err := s.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if n, err := readable(s); err != nil || n < commits {
			t.Fatalf("%d of %d commits are read, error %v", n, commits, err)
		}
	}
	if err := s.Close(); !errors.Is(err, store.ErrFailed) {
		t.Errorf("close: %v", err)
	}
}
