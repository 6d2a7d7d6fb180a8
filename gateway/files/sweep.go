package files

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/store"
)

// sweepEvery is how often files are looked for that no record names, since a record
// may have expired. sweepDelay lets drops that come together share a sweep.
const (
	sweepEvery = time.Minute
	sweepDelay = time.Second
)

// Run deletes files whose records were dropped or expired, until ctx ends. It returns nil.
func (a *Area) Run(ctx context.Context) error {
	every := time.NewTicker(sweepEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.sweeps:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(sweepDelay):
			}
		case <-every.C:
		}
		if err := a.sweep(); err != nil && !errors.Is(err, store.ErrClosed) {
			a.log.Error("files that nothing names any more could not be found; the next sweep tries again", "error", err)
		}
	}
}

func (a *Area) sweepSoon() {
	select {
	case a.sweeps <- struct{}{}:
	default:
	}
}

// sweep deletes the files that no record names, and corrects sums that an expired
// record has left too high. The order matters: an upload that is on disk and no longer
// pending has had its record written, if it has one, so a scan that begins later finds it.
func (a *Area) sweep() error {
	found, err := a.list()
	if err != nil {
		return err
	}
	a.mu.Lock()
	skip := make(map[string]bool, len(a.pending))
	for id := range a.pending {
		skip[id] = true
	}
	a.mu.Unlock()
	named, err := a.named()
	if err != nil {
		return err
	}
	// What the scan saw may not be durable yet. A file may go only if its record
	// cannot come back.
	if err := store.CommitWait(a.store, &store.Batch{}); err != nil {
		return fmt.Errorf("waiting for dropped records to be durable: %w", err)
	}
	for _, f := range found {
		if !skip[f.id] && !named[f.id] {
			a.remove(f.id, f.size)
			a.stats.swept.Add(1)
		}
	}
	return nil
}

// named returns the ids that records name, and corrects the sums on the way. A damaged
// record is an error: its files must not go.
func (a *Area) named() (map[string]bool, error) {
	ids := map[string]bool{}
	sums := map[string]int64{}
	was := map[string]store.Expect{}
	said := map[string]string{}
	var bad error
	err := a.store.ScanRange(store.Range{Kind: store.File}, func(name string, value []byte, rev store.Revision) bool {
		cut := strings.LastIndexByte(name[:secondNUL(name)+1], 0) + 1
		if cut == len(name) {
			was[name], said[name] = store.Expect{Key: key(name), Revision: rev}, string(value)
			return true
		}
		r, err := parse(name[cut:], value)
		if err != nil {
			bad = err
			return false
		}
		for _, s := range r.Segments {
			ids[s.ID] = true
		}
		sums[name[:cut]] += r.size()
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("reading the records of files: %w", err)
	}
	for owner, x := range was {
		if want := strconv.FormatInt(sums[owner], 10); want != said[owner] {
			b := &store.Batch{Expect: []store.Expect{x}}
			b.Put(store.Put{Key: x.Key, Value: []byte(want)})
			if err := a.store.Commit(b, nil); err != nil && !errors.Is(err, store.ErrConflict) {
				return nil, fmt.Errorf("correcting the sum of a plugin's files: %w", err)
			}
		}
	}
	return ids, nil
}

// secondNUL returns where the name of a file begins, less one.
func secondNUL(name string) int {
	first := strings.IndexByte(name, 0)
	second := strings.IndexByte(name[first+1:], 0)
	if first < 0 || second < 0 {
		return len(name) - 1
	}
	return first + 1 + second
}

// Purge drops all files of an application that was deleted.
func (a *Area) Purge(application string) error {
	if err := store.DeleteRange(a.store, store.Prefix(store.File, application+"\x00"), nil, nil); err != nil {
		return fmt.Errorf("dropping the files of application %s: %w", application, err)
	}
	a.sweepSoon()
	return nil
}
