package store

import "errors"

// Committer is what CommitWait needs of a Store.
type Committer interface {
	Commit(b *Batch, done func(error)) error
}

// CommitWait commits a batch and returns when it is durable, or with the error that
// Commit or its done gave. It must not be called from a callback of the store.
func CommitWait(st Committer, b *Batch) error {
	done := make(chan error, 1)
	if err := st.Commit(b, func(err error) { done <- err }); err != nil {
		return err
	}
	return <-done
}

// Ranger is what DeleteRange needs of a Store.
type Ranger interface {
	Committer
	ScanRange(r Range, fn func(name string, value []byte, rev Revision) bool) error
}

// deletedAtOnce is how many keys of a range one commit of DeleteRange deletes.
const deletedAtOnce = 500

// DeleteRange deletes the keys of a range, some hundreds in each commit, and returns when
// all are gone durably. A key that changes meanwhile is deleted as it is then. with, unless
// it is nil, adds to the batch what goes with a key; gone, unless it is nil, is told of each
// key after its commit.
func DeleteRange(st Ranger, r Range, with func(b *Batch, name string, value []byte), gone func(name string)) error {
	for {
		b := &Batch{}
		var names []string
		err := st.ScanRange(r, func(name string, value []byte, rev Revision) bool {
			key := Key{Kind: r.Kind, Name: name}
			b.Expect = append(b.Expect, Expect{Key: key, Revision: rev})
			b.Deletes = append(b.Deletes, key)
			if with != nil {
				with(b, name, value)
			}
			names = append(names, name)
			return len(names) < deletedAtOnce
		})
		if err == nil && len(names) > 0 {
			err = CommitWait(st, b)
		}
		switch {
		case errors.Is(err, ErrConflict): // one changed: look again
			continue
		case err != nil:
			return err
		case len(names) == 0:
			return nil
		}
		for _, name := range names {
			if gone != nil {
				gone(name)
			}
		}
	}
}
