package server

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"

	"tributary.io/gateway/config"
	"tributary.io/gateway/metric"
)

// maxUnread bounds the lines that wait to be written, in bytes, and lastWords how long a stop
// waits until they are.
const (
	maxUnread = 1 << 20
	lastWords = time.Second
)

// Log writes the lines of the log in a goroutine of its own, so that no caller waits for the
// reader of the log: a full pipe takes nothing until its reader reads. Lines beyond maxUnread,
// and lines that could not be written, are dropped and counted, and the log says how many as
// soon as it is read again. It is safe for concurrent use.
type Log struct {
	w    io.Writer
	say  *slog.Logger // about the log; it writes to w
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	waiting []byte
	dropped uint64
	closed  bool
}

// NewLog returns a log that writes to w, one write at a time. Close ends it.
func NewLog(w io.Writer, form config.Log) *Log {
	l := &Log{w: w, say: form.Logger(w), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes one line, or drops it. It never waits and returns no error.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	if l.closed || len(l.waiting) > 0 && len(l.waiting)+len(line) > maxUnread {
		l.dropped++
	} else {
		l.waiting = append(l.waiting, line...)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// run writes what waits until the log is closed.
func (l *Log) run() {
	defer close(l.done)
	var batch []byte
	told := uint64(0)
	for range l.wake {
		l.mu.Lock()
		batch, l.waiting = l.waiting, batch[:0]
		dropped, closed := l.dropped, l.closed
		l.mu.Unlock()
		n, err := l.w.Write(batch)
		switch {
		case err != nil:
			l.mu.Lock()
			l.dropped += uint64(bytes.Count(batch[n:], []byte("\n")))
			l.mu.Unlock()
		case dropped > told && len(batch) > 0:
			l.say.Warn("lines of the log were dropped here, as nobody read them", "lines", dropped-told)
			told = dropped
		}
		if closed {
			return
		}
	}
}

// Close writes what waits, for at most a second. Later lines are dropped.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case <-l.done:
	case <-time.After(lastWords):
	}
}

// Metrics returns the log's counter.
func (l *Log) Metrics() []metric.Sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	var set metric.Set
	set.Counter("tributary_log_dropped_lines_total", "Lines of the log that nobody read.", l.dropped)
	return set
}
