package files

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"tributary.io/sdk-plugin/event"
)

// Receive writes an upload to disk and syncs it. The caller calls Release with the id
// when the upload's event is over. The error is ErrTooLarge, ErrFull or ErrBusy, or the
// reader's own.
func (a *Area) Receive(application string, from io.Reader) (*event.Upload, error) {
	up, err := a.receive(application, from)
	if err != nil {
		a.stats.refused.Add(1)
		return nil, err
	}
	a.stats.received.Add(1)
	return up, nil
}

func (a *Area) receive(application string, from io.Reader) (*event.Upload, error) {
	var random [idBytes]byte
	rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	p := &pending{application: application}
	if err := a.begin(id, p); err != nil {
		return nil, err
	}
	up, err := a.write(id, p, from)
	if err != nil {
		a.Release(id)
		return nil, err
	}
	return up, nil
}

// begin takes a place among the application's uploads.
func (a *Area) begin(id string, p *pending) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count[p.application] >= a.cfg.MaxUploads {
		return ErrBusy
	}
	a.count[p.application]++
	a.pending[id] = p
	return nil
}

// write copies the upload to its file. What it wrote is counted in p and in the bytes on
// disk, also if it fails.
func (a *Area) write(id string, p *pending, from io.Reader) (*event.Upload, error) {
	path := a.path(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, inWords(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, inWords(err)
	}
	defer f.Close()
	digest := sha256.New()
	if _, err := io.Copy(io.MultiWriter(&metered{area: a, p: p, to: f}, digest), from); err != nil {
		return nil, inWords(err)
	}
	if err := f.Sync(); err != nil {
		return nil, inWords(err)
	}
	if err := syncDirs(filepath.Dir(path), a.cfg.Dir); err != nil {
		return nil, inWords(err)
	}
	if err := f.Close(); err != nil {
		return nil, inWords(err)
	}
	return &event.Upload{ID: id, Size: uint64(p.size), SHA256: hex.EncodeToString(digest.Sum(nil))}, nil
}

// metered holds an upload to the bounds.
type metered struct {
	area *Area
	p    *pending
	to   io.Writer
}

func (m *metered) Write(b []byte) (int, error) {
	n := int64(len(b))
	if m.p.size+n > m.area.cfg.MaxUploadBytes {
		return 0, ErrTooLarge
	}
	if m.area.bytes.Add(n) > m.area.cfg.MaxBytes {
		m.area.bytes.Add(-n)
		return 0, ErrFull
	}
	m.p.size += n
	return m.to.Write(b)
}

// syncDirs makes names in directories durable.
func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = d.Sync()
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// inWords makes ErrFull of a full disk.
func inWords(err error) error {
	switch {
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrFull):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("writing an upload: %w", err)
}

// Release says that an upload's event is over. The file is deleted if no record names it.
func (a *Area) Release(id string) {
	a.mu.Lock()
	p := a.pending[id]
	if p == nil {
		a.mu.Unlock()
		return
	}
	delete(a.pending, id)
	if a.count[p.application]--; a.count[p.application] == 0 {
		delete(a.count, p.application)
	}
	a.mu.Unlock()
	if !p.kept {
		a.remove(id, p.size)
	}
}
