package files

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// maxSegments bounds how many uploads make up one file.
const maxSegments = 1000

// record says what a file is made of.
type record struct {
	Segments []segment `json:"segments"`
	Changed  time.Time `json:"changed"`
}

// segment is one upload in a file.
type segment struct {
	ID   string `json:"id"`
	Size int64  `json:"size"`
}

func (r *record) size() (n int64) {
	for _, s := range r.Segments {
		n += s.Size
	}
	return n
}

func owner(application, plugin string) string { return application + "\x00" + plugin + "\x00" }

func key(name string) store.Key { return store.Key{Kind: store.File, Name: name} }

// change is the effects of one handler on the files of its plugin.
type change struct {
	area    *Area
	batch   *store.Batch
	owner   string
	now     time.Time
	grown   int64
	dropped bool
	kept    []string // ids of uploads
}

// Keep implements the router's Keeper: it adds to the batch the records of files that
// are kept, and takes out those that are dropped.
func (a *Area) Keep(b *store.Batch, o *stage.Origin, effects []event.Effect) (kept func(), err error) {
	c := &change{area: a, batch: b, owner: owner(o.Application, o.Plugin), now: time.Now().UTC()}
	for _, effect := range effects {
		switch e := effect.(type) {
		case *event.KeepFile:
			err = c.keep(o.Application, e)
		case *event.DropFile:
			err = c.drop(e.Name)
		default:
			err = fmt.Errorf("%T is no effect on files", effect)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := c.account(a.quotas[o.Plugin]); err != nil {
		return nil, err
	}
	return func() {
		a.mu.Lock()
		for _, id := range c.kept {
			if p := a.pending[id]; p != nil {
				p.kept = true
			}
		}
		a.mu.Unlock()
		if c.dropped {
			a.sweepSoon()
		}
	}, nil
}

// keep makes a file of the event's upload, or makes one longer by it.
func (c *change) keep(application string, e *event.KeepFile) error {
	c.area.mu.Lock()
	p := c.area.pending[e.Upload]
	c.area.mu.Unlock()
	if p == nil || p.application != application {
		return &event.Failure{Message: fmt.Sprintf("it kept the upload %.64q, which is not the one of this event", e.Upload)}
	}
	old, err := c.read(e.Name)
	if err != nil {
		return err
	}
	next := record{Changed: c.now}
	if old != nil && e.Append {
		next.Segments = old.Segments
	} else if old != nil {
		c.grown -= old.size()
		c.dropped = true
	}
	if len(next.Segments) == maxSegments {
		return &event.Failure{Code: event.QuotaExceeded, Message: fmt.Sprintf("it appended to the file %.64q more than %d times", e.Name,
			maxSegments)}
	}
	next.Segments = append(next.Segments, segment{ID: e.Upload, Size: p.size})
	value, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("writing the record of a file: %w", err)
	}
	put := store.Put{Key: key(c.owner + e.Name), Value: value}
	if e.TTL > 0 {
		put.Expires = c.now.Add(e.TTL)
	}
	c.batch.Put(put)
	c.grown += p.size
	c.kept = append(c.kept, e.Upload)
	return nil
}

func (c *change) drop(name string) error {
	old, err := c.read(name)
	if err != nil || old == nil {
		return err
	}
	c.batch.Delete(key(c.owner + name))
	c.grown -= old.size()
	c.dropped = true
	return nil
}

// read returns what a file is made of at present; nil: there is none. The commit then
// expects that it has not changed.
func (c *change) read(name string) (*record, error) {
	if p, written := c.batch.Written(key(c.owner + name)); written {
		if p == nil {
			return nil, nil
		}
		return parse(name, p.Value)
	}
	value, rev, err := c.area.store.Get(key(c.owner + name))
	if err != nil {
		return nil, fmt.Errorf("reading the record of the file %q: %w", name, err)
	}
	c.batch.Expect = append(c.batch.Expect, store.Expect{Key: key(c.owner + name), Revision: rev})
	if value == nil {
		return nil, nil
	}
	return parse(name, value)
}

func parse(name string, value []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("the record of the file %q is damaged: %w", name, err)
	}
	for _, s := range r.Segments {
		if !validID(s.ID) {
			return nil, fmt.Errorf("the record of the file %q is damaged: it names %q", name, s.ID)
		}
	}
	return &r, nil
}

// account adds the growth to the sum of the plugin's files and refuses what is beyond
// its quota.
func (c *change) account(quota int64) error {
	if c.grown == 0 {
		return nil
	}
	sum, rev, err := c.area.sum(c.batch, c.owner)
	if err != nil {
		return err
	}
	if sum+c.grown > quota && c.grown > 0 {
		return &event.Failure{Code: event.QuotaExceeded, Message: fmt.Sprintf(
			"its files in this application would take %d bytes, more than the %d of files_bytes in its grant", sum+c.grown, quota)}
	}
	if _, written := c.batch.Written(key(c.owner)); !written {
		c.batch.Expect = append(c.batch.Expect, store.Expect{Key: key(c.owner), Revision: rev})
	}
	c.batch.Put(store.Put{Key: key(c.owner), Value: strconv.AppendInt(nil, max(0, sum+c.grown), 10)})
	return nil
}

// sum returns what the files of an owner take, as the batch would leave it. The
// revision is that of the store.
func (a *Area) sum(b *store.Batch, owner string) (int64, store.Revision, error) {
	value, rev := []byte(nil), store.Revision(0)
	if p, written := b.Written(key(owner)); written && p != nil {
		value = p.Value
	} else if !written {
		var err error
		if value, rev, err = a.store.Get(key(owner)); err != nil {
			return 0, 0, fmt.Errorf("reading the sum of a plugin's files: %w", err)
		}
	}
	if value == nil {
		return 0, rev, nil
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("the sum of a plugin's files is damaged: %w", err)
	}
	return n, rev, nil
}
