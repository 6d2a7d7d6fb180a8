package pebble

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// witnessName is the file that says how many commits are durable.
const witnessName = "witness"

// checkWitness compares what pebble recovered with the witness. pebble takes
// damage at the end of its manifest or its newest log for the trace of a power
// cut and goes on without what followed; the witness knows better.
func (s *Store) checkWitness() error {
	path := filepath.Join(s.cfg.Dir, witnessName)
	f, err := s.env.fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the witness: %w", err)
	}
	defer f.Close()
	var b [witnessLen + 1]byte
	n, _ := f.ReadAt(b[:], 0)
	seen, ok := decodeWitness(b[:n])
	if !ok {
		return fmt.Errorf("%w: the file %s is unreadable; compare the logs with a backup, then remove it", store.ErrCorrupt, path)
	}
	if s.rev < seen {
		return fmt.Errorf("%w: the store holds commits up to %d but %d were durable; restore a backup, or remove %s to go on without them",
			store.ErrCorrupt, s.rev, seen, path)
	}
	s.witnessed.Store(seen)
	return nil
}

// writeWitness replaces the witness in one step, if there is something new. It goes
// round the guard, for a witness that could not be written, as where no file can be
// opened for a moment, loses nothing: an older one is as true.
func (s *Store) writeWitness() error {
	rev := s.durable.Load()
	if rev == s.witnessed.Load() || s.fs.failure() != nil {
		return nil
	}
	fs, path := s.env.fs, filepath.Join(s.cfg.Dir, witnessName)
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(encodeWitness(rev))
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
	if err == nil {
		s.witnessed.Store(rev)
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
