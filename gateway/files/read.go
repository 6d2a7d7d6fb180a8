package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"tributary.io/gateway/store"
)

// File is a file that is open for reading. It is for one goroutine.
type File struct {
	// Size is the length in bytes.
	Size int64
	// Changed is when the plugin last changed it.
	Changed time.Time
	// Tag changes with the content.
	Tag string

	parts []part
	at    int64
}

// part is an open segment.
type part struct {
	f    *os.File
	from int64 // where it begins in the file
	size int64
}

// Open opens a file of a plugin. The error wraps ErrAbsent if there is none, and
// store.ErrCorrupt if its bytes are gone from the disk. The caller closes the file.
func (a *Area) Open(application, plugin, name string) (*File, error) {
	value, _, err := a.store.Get(key(owner(application, plugin) + name))
	if err != nil {
		return nil, fmt.Errorf("reading the record of the file %q: %w", name, err)
	}
	if value == nil || name == "" {
		return nil, fmt.Errorf("opening %q: %w", name, ErrAbsent)
	}
	r, err := parse(name, value)
	if err != nil {
		return nil, err
	}
	f := &File{Size: r.size(), Changed: r.Changed}
	at := int64(0)
	for _, s := range r.Segments {
		h, err := os.Open(a.path(s.ID))
		if err == nil {
			f.parts = append(f.parts, part{f: h, from: at, size: s.Size})
			at += s.Size
			err = rightSize(h, s.Size)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("opening a part of the file %q of plugin %s: %w: %w", name, plugin, store.ErrCorrupt, err)
		}
	}
	if n := len(r.Segments); n > 0 {
		f.Tag = fmt.Sprintf("%s-%d", r.Segments[n-1].ID, n)
	}
	return f, nil
}

func rightSize(h *os.File, want int64) error {
	info, err := h.Stat()
	if err == nil && info.Size() != want {
		err = fmt.Errorf("it has %d bytes, not %d", info.Size(), want)
	}
	return err
}

// Read implements io.Reader.
func (f *File) Read(b []byte) (int, error) {
	for _, p := range f.parts {
		if f.at < p.from+p.size && len(b) > 0 {
			n, err := p.f.ReadAt(b[:min(int64(len(b)), p.from+p.size-f.at)], f.at-p.from)
			f.at += int64(n)
			if n > 0 && errors.Is(err, io.EOF) {
				err = nil
			}
			return n, err
		}
	}
	return 0, io.EOF
}

// Seek implements io.Seeker.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.Size
	}
	if offset < 0 {
		return 0, errors.New("seeking before the beginning of a file")
	}
	f.at = offset
	return offset, nil
}

// Close closes the file.
func (f *File) Close() error {
	var errs []error
	for _, p := range f.parts {
		errs = append(errs, p.f.Close())
	}
	return errors.Join(errs...)
}
