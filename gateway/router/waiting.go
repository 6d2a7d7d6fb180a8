package router

import (
	"sync"
	"sync/atomic"
)

// waiting counts the events of a shard that wait for a retry, or behind one. If too many events
// of a device or an application wait, a submitter of more has to wait, too. Otherwise the
// events of one device whose plugin fails would take all places, and every other device of the
// shard would wait for its retries. It is safe for concurrent use.
type waiting struct {
	all atomic.Int64

	mu           sync.Mutex
	devices      map[deviceKey]int
	applications map[string]int
	fewer        chan struct{} // closed when one less waits; nil if nothing waits for it
}

// add notes that one more event waits, or with -1 that one less does.
func (w *waiting) add(k deviceKey, by int) {
	w.all.Add(int64(by))
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.devices == nil {
		w.devices, w.applications = map[deviceKey]int{}, map[string]int{}
	}
	if w.devices[k] += by; w.devices[k] == 0 {
		delete(w.devices, k)
	}
	if w.applications[k.application] += by; w.applications[k.application] == 0 {
		delete(w.applications, k.application)
	}
	if by < 0 && w.fewer != nil {
		close(w.fewer)
		w.fewer = nil
	}
}

// full returns nil if one more event may be submitted. Otherwise it returns a channel that is
// closed when it is worth asking again. queue is the size of the shard's queue, of which a
// device may have an eighth and an application half.
func (w *waiting) full(k deviceKey, queue int) <-chan struct{} {
	if w.all.Load() == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.devices[k] < max(1, queue/8) && w.applications[k.application] < max(1, queue/2) {
		return nil
	}
	if w.fewer == nil {
		w.fewer = make(chan struct{})
	}
	return w.fewer
}
