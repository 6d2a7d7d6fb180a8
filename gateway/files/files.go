// Package files keeps the files of plugins: what clients upload, and what they
// download. A plugin never holds a file in its memory. It gets an upload's size and
// digest with the event of the request, keeps it under a name of its own, and names a
// file in its reply; the listener moves the bytes.
//
// # What is promised
//
// An upload is on disk, synced, before its event is handled. The commit that handles
// the event also writes the record that names it, so a file that was kept survives a
// power cut, and one that was not kept is deleted when its event is over. A file is
// deleted only after the commit that dropped its record is durable.
//
// # On disk and in the store
//
// Each upload is one file, <dir>/<first two digits>/<id>. A record is a key of kind
// store.File, "<application>\x00<plugin>\x00<name>", whose value lists the uploads that
// make up the file, in order. The key with an empty name holds the sum of the sizes of
// that plugin's files in that application.
package files

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"tributary.io/gateway/metric"
	"tributary.io/gateway/store"
)

// The errors that callers branch on.
var (
	ErrTooLarge = errors.New("the upload is longer than files.max_upload_bytes")
	ErrFull     = errors.New("there is no room for the upload: see files.max_bytes and the disk")
	ErrBusy     = errors.New("too many uploads of this application are under way: see files.max_uploads")
	ErrAbsent   = errors.New("there is no such file")
)

// Config says where files are and bounds them. Sizes are bytes.
type Config struct {
	// Dir holds the files and nothing else. It is made if it is absent.
	Dir string `koanf:"dir"`
	// MaxBytes bounds all files together, uploads under way included.
	MaxBytes int64 `koanf:"max_bytes"`
	// MaxUploadBytes bounds one upload.
	MaxUploadBytes int64 `koanf:"max_upload_bytes"`
	// MaxUploads bounds the uploads of one application whose events are not over.
	MaxUploads int `koanf:"max_uploads"`
}

// Default returns the settings of a gateway that sets none.
func Default() Config {
	return Config{Dir: "data/files", MaxBytes: 10 << 30, MaxUploadBytes: 256 << 20, MaxUploads: 64}
}

// Validate names every setting that cannot work.
func (c *Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir is empty; name a directory that holds nothing else"))
	}
	if c.MaxBytes < 1 {
		errs = append(errs, fmt.Errorf("max_bytes is %d; it must be at least 1", c.MaxBytes))
	}
	if c.MaxUploadBytes < 1 || c.MaxUploadBytes > c.MaxBytes {
		errs = append(errs, fmt.Errorf("max_upload_bytes is %d; it must be from 1 to max_bytes, %d", c.MaxUploadBytes, c.MaxBytes))
	}
	if c.MaxUploads < 1 {
		errs = append(errs, fmt.Errorf("max_uploads is %d; it must be at least 1", c.MaxUploads))
	}
	return errors.Join(errs...)
}

// Store is what files need of a store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	ScanRange(r store.Range, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Area is the files of all plugins. It is safe for concurrent use.
type Area struct {
	cfg    Config
	store  Store
	log    *slog.Logger
	quotas map[string]int64 // bytes in each application, by plugin
	sweeps chan struct{}

	mu      sync.Mutex
	pending map[string]*pending // uploads whose event is not over, by id
	count   map[string]int      // of them, by application

	bytes atomic.Int64 // on disk
	stats stats
}

// pending is an upload whose event is not over.
type pending struct {
	application string
	size        int64
	kept        bool // a record that names it is durable
}

// stats counts what was done.
type stats struct {
	received, refused, swept atomic.Uint64
}

// New opens the area and deletes what no record names. quotas says how many bytes each
// plugin may keep in each application.
func New(cfg Config, st Store, quotas map[string]int64, log *slog.Logger) (*Area, error) {
	a := &Area{cfg: cfg, store: st, log: log, quotas: quotas, sweeps: make(chan struct{}, 1),
		pending: map[string]*pending{}, count: map[string]int{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of files: %w; see files.dir", err)
	}
	found, err := a.list()
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		a.bytes.Add(f.size)
	}
	return a, a.sweep()
}

// path is where an upload is.
func (a *Area) path(id string) string { return filepath.Join(a.cfg.Dir, id[:2], id) }

// stored is a file on disk.
type stored struct {
	id   string
	size int64
}

// list returns the uploads on disk. It leaves alone what has no name of an upload.
func (a *Area) list() ([]stored, error) {
	paths, err := filepath.Glob(filepath.Join(a.cfg.Dir, "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		return nil, fmt.Errorf("listing the directory of files: %w; see files.dir", err)
	}
	var found []stored
	for _, path := range paths {
		id := filepath.Base(path)
		if !validID(id) {
			continue
		}
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the size of a file: %w; see files.dir", err)
		}
		found = append(found, stored{id: id, size: info.Size()})
	}
	return found, nil
}

// idBytes is how many random bytes an upload's id has; it is written in hex.
const idBytes = 16

func validID(id string) bool {
	if len(id) != 2*idBytes {
		return false
	}
	for _, c := range []byte(id) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// remove deletes an upload's file. A failure is logged, and the next sweep tries again.
func (a *Area) remove(id string, size int64) {
	if err := os.Remove(a.path(id)); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			a.log.Error("a file that nothing names any more could not be deleted; the next sweep tries again", "file", id, "error", err)
		}
		return
	}
	a.bytes.Add(-size)
}

// Metrics returns the counters of files.
func (a *Area) Metrics() []metric.Sample {
	a.mu.Lock()
	uploads := len(a.pending)
	a.mu.Unlock()
	var set metric.Set
	set.Gauge("tributary_files_bytes", "Bytes of files on disk, uploads under way included.", float64(a.bytes.Load()))
	set.Gauge("tributary_files_uploads", "Uploads whose event is not over.", float64(uploads))
	set.Counter("tributary_files_received_total", "Uploads that were written to disk.", a.stats.received.Load())
	set.Counter("tributary_files_refused_total", "Uploads that were refused or broke off.", a.stats.refused.Load())
	set.Counter("tributary_files_deleted_total", "Files that were deleted since no record named them any more.", a.stats.swept.Load())
	return set
}
