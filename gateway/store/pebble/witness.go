package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// witnessName is the file that says how many commits are durable.
const witnessName = "witness"

// witness is the state that was durable when the file was written.
type witness struct {
	revision uint64 // of the newest commit
	manifest uint64 // number of the MANIFEST; 0: an earlier version wrote the witness
	length   int64  // bytes of it
	logs     []uint64
}

// readWitness reads the file; a store that has none yet has nothing to lose.
func (s *Store) readWitness() (w witness, err error) {
	path := filepath.Join(s.cfg.Dir, witnessName)
	f, err := s.env.fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("reading the witness: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return w, fmt.Errorf("reading the witness: %w", err)
	}
	w, ok := decodeWitness(b)
	if !ok {
		return w, fmt.Errorf("%w: the file %s is unreadable; compare the logs with a backup, then remove it", store.ErrCorrupt, path)
	}
	return w, nil
}

// checkWitness compares what pebble recovered with the witness. pebble takes
// damage at the end of its newest log for the trace of a power
// cut and goes on without what followed; the witness knows better.
func (s *Store) checkWitness() error {
	seen, err := s.readWitness()
	if err != nil {
		return err
	}
	if s.rev < seen.revision {
		return fmt.Errorf("%w: the store holds commits up to %d but %d were durable; restore a backup, or remove %s to go on without them",
			store.ErrCorrupt, s.rev, seen.revision, filepath.Join(s.cfg.Dir, witnessName))
	}
	s.witnessed.Store(seen.revision)
	return nil
}

// writeWitness replaces the witness in one step, if there is something new. It goes
// round the guard, for a witness that could not be written, as where no file can be
// opened for a moment, loses nothing: an older one is as true. But as long as it is older
// than the MANIFEST, nothing is removed that only the MANIFEST says is not needed.
func (s *Store) writeWitness() error {
	s.witnessMu.Lock()
	defer s.witnessMu.Unlock()
	rev := max(s.durable.Load(), s.witnessed.Load()) // before recovery is over it is not known
	number, length, news := s.fs.manifest()
	if rev == s.witnessed.Load() && !news || s.fs.failure() != nil {
		return nil
	}
	logs, err := olderLogs(s.env.fs, s.cfg.Dir)
	if err != nil {
		return err
	}
	if err := s.replaceWitness(encodeWitness(witness{rev, number, length, logs})); err != nil {
		return err
	}
	s.witnessed.Store(rev)
	s.fs.witnessed(number, length)
	return nil
}

func (s *Store) replaceWitness(b []byte) error {
	fs, path := s.env.fs, filepath.Join(s.cfg.Dir, witnessName)
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fs.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(fs, s.cfg.Dir)
	}
	return err
}

// makeDir makes a directory that is still there after a power cut.
func makeDir(fs vfs.FS, dir string) error {
	var grown []string // directories that get a new entry
	for d := dir; ; {
		if _, err := fs.Stat(d); err == nil {
			break
		}
		up := fs.PathDir(d)
		if grown = append(grown, up); up == d {
			break
		}
		d = up
	}
	if err := fs.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, d := range grown {
		if err := syncDir(fs, d); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
