package store_test

import (
	"errors"
	"fmt"
	"testing"

	"tributary.io/gateway/store"
)

// changing is a store in which a key changes while its range is deleted.
type changing struct {
	keys    map[string]store.Revision
	changes int
	commits int
}

func (c *changing) ScanRange(r store.Range, fn func(name string, value []byte, rev store.Revision) bool) error {
	for i := range 1200 {
		name := fmt.Sprintf("k%04d", i)
		if rev, ok := c.keys[name]; ok && r.Has(name) && !fn(name, []byte(name), rev) {
			return nil
		}
	}
	return nil
}

func (c *changing) Commit(b *store.Batch, done func(error)) error {
	if c.commits++; c.changes > 0 {
		c.changes--
		c.keys[b.Expect[0].Key.Name]++
	}
	for _, x := range b.Expect {
		if c.keys[x.Key.Name] != x.Revision {
			return store.ErrConflict
		}
	}
	for _, k := range b.Deletes {
		delete(c.keys, k.Name)
	}
	go done(nil)
	return nil
}

// All keys of a range go, those that change meanwhile, too, and each is told of once.
func TestDeleteRange(t *testing.T) {
	st := &changing{keys: map[string]store.Revision{"x": 1}, changes: 2}
	for i := range 1200 {
		st.keys[fmt.Sprintf("k%04d", i)] = 1
	}
	gone, with := map[string]int{}, 0
	err := store.DeleteRange(st, store.Prefix(store.State, "k"), func(b *store.Batch, name string, value []byte) {
		if string(value) != name {
			t.Errorf("%s has the value %s", name, value)
		}
		with++
	}, func(name string) { gone[name]++ })
	if err != nil || len(st.keys) != 1 || len(gone) != 1200 || with < 1200 || st.commits != 5 {
		t.Errorf("%v; %d keys are left, %d were told of, %d commits", err, len(st.keys), len(gone), st.commits)
	}
	for name, n := range gone {
		if n != 1 {
			t.Errorf("%s was told of %d times", name, n)
		}
	}
}

type failing struct{ at, later error }

func (f failing) Commit(_ *store.Batch, done func(error)) error {
	if f.at == nil {
		go done(f.later)
	}
	return f.at
}

func TestCommitWait(t *testing.T) {
	bad := errors.New("bad")
	for _, c := range []struct {
		st   failing
		want error
	}{{failing{nil, nil}, nil}, {failing{bad, nil}, bad}, {failing{nil, bad}, bad}} {
		if got := store.CommitWait(c.st, &store.Batch{}); got != c.want {
			t.Errorf("%+v: %v", c.st, got)
		}
	}
}
