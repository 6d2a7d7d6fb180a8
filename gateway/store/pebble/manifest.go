package pebble

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	pebbledb "github.com/cockroachdb/pebble/v2"
	pebblerecord "github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// manifest is the content of one of pebble's MANIFEST files. pebble takes damage within one for
// the trace of a power cut: it goes on as if nothing had been written behind it, and removes
// the tables that it does not find there.
type manifest struct {
	number    uint64
	intact    int64  // bytes up to the first record that is not intact
	oldestLog uint64 // number of the first log whose commits are in no table
}

// readManifest reads as much of a MANIFEST as is intact.
func readManifest(fs vfs.FS, path string) (manifest, error) {
	m := manifest{number: fileNumber(filepath.Base(path))}
	f, err := fs.Open(path)
	if err != nil {
		return m, fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	records := pebblerecord.NewReader(f, 0)
	for {
		r, err := records.Next()
		if err == nil {
			err = m.read(r)
		}
		switch {
		case err == io.EOF || pebblerecord.IsInvalidRecord(err):
			return m, nil
		case err != nil:
			return m, fmt.Errorf("reading %s: %w", path, err)
		}
		m.intact = records.Offset()
	}
}

// The fields of a version edit that come before those of tables, in this order.
const (
	editComparer = 1
	editLog      = 2
)

// read takes one version edit: as far as oldestLog, and the rest only to see that it is
// there.
func (m *manifest) read(r io.Reader) error {
	b := bufio.NewReader(r)
	tag, err := binary.ReadUvarint(b)
	if err == nil && tag == editComparer {
		var n uint64
		if n, err = binary.ReadUvarint(b); err == nil {
			if _, err = io.CopyN(io.Discard, b, int64(min(n, 1<<20))); err == nil {
				tag, err = binary.ReadUvarint(b)
			}
		}
	}
	if err == nil && tag == editLog {
		var n uint64
		if n, err = binary.ReadUvarint(b); err == nil {
			m.oldestLog = n
		}
	}
	if err != nil && err != io.EOF {
		return err
	}
	_, err = io.Copy(io.Discard, b)
	return err
}

// fileNumber is the number in the name of a file of pebble; 0: it has none.
func fileNumber(name string) uint64 {
	digits := strings.TrimPrefix(name, "MANIFEST-")
	digits, _, _ = strings.Cut(digits, ".")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// isLog says whether a file name is that of one of pebble's logs.
func isLog(name string) bool { return strings.HasSuffix(name, ".log") && fileNumber(name) > 0 }

// olderLogs are the numbers of the logs in the directory but for the newest, which may have
// no durable entry there yet.
func olderLogs(fs vfs.FS, dir string) ([]uint64, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var logs []uint64
	for _, name := range names {
		if isLog(name) {
			logs = append(logs, fileNumber(name))
		}
	}
	slices.Sort(logs)
	return logs[:max(0, len(logs)-1)], nil
}

// inspect compares the files of the directory with the witness before pebble sees them, which
// would remove what it does not understand. It only reads.
func (s *Store) inspect() error {
	fs, dir := s.env.fs, s.cfg.Dir
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	desc, err := pebbledb.Peek(dir, fs)
	if err != nil {
		return damaged(err)
	}
	if !desc.Exists {
		for _, name := range names {
			if isLog(name) || strings.HasSuffix(name, ".sst") || strings.HasPrefix(name, "MANIFEST-") {
				return fmt.Errorf("%w: %s is there, but nothing says which MANIFEST is the current one: restore a backup", store.ErrCorrupt, name)
			}
		}
		return nil
	}
	if err := s.rehearse(); err != nil {
		return err
	}
	path := desc.ManifestFilename
	if !filepath.IsAbs(path) && !strings.HasPrefix(path, dir) {
		path = fs.PathJoin(dir, path)
	}
	m, err := readManifest(fs, path)
	if err != nil {
		return damaged(err)
	}
	w, err := s.readWitness()
	if err != nil {
		return err
	}
	s.fs.follow(m.number, m.intact)
	s.fs.witnessed(w.manifest, w.length)
	if why := w.contradicts(m, path, names); why != "" {
		return fmt.Errorf("%w: %s; restore a backup, or remove %s to go on without what is missing", store.ErrCorrupt, why,
			fs.PathJoin(dir, witnessName))
	}
	return nil
}

// contradicts says what of all that was durable a MANIFEST lacks; "" if it lacks nothing.
func (w witness) contradicts(m manifest, path string, names []string) string {
	switch {
	case m.intact == 0:
		return path + " has no intact record"
	case m.number < w.manifest:
		return fmt.Sprintf("%s is the current MANIFEST, but number %d was", path, w.manifest)
	case m.number == w.manifest && m.intact < w.length:
		return fmt.Sprintf("%s is damaged behind its first %d bytes, and %d were durable", path, m.intact, w.length)
	}
	for _, log := range w.logs {
		if name := fmt.Sprintf("%06d.log", log); log >= m.oldestLog && !slices.Contains(names, name) {
			return fmt.Sprintf("the log %s is gone, and held commits that are nowhere else", name)
		}
	}
	return ""
}

// rehearse opens what is there without changing it, so that a store which turns out to be
// damaged is left as it was found.
func (s *Store) rehearse() error {
	o := s.options()
	o.ReadOnly, o.FS = true, s.env.fs
	db, err := pebbledb.Open(s.cfg.Dir, o)
	if errors.Is(err, pebbledb.ErrDBNotPristine) { // a marker of its format is gone
		err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	if err != nil {
		return damaged(err)
	}
	s.db = db
	err = s.loadRevision()
	if err == nil {
		err = s.checkWitness()
	}
	return errors.Join(err, db.Close())
}
