package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"tributary.io/gateway/config"
)

// Nobody who logs waits for a reader that does not read, and the reader hears what it
// missed.
func TestUnreadLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		l := NewLog(w, config.Log{Level: "info", Format: "text"})
		line := []byte(strings.Repeat("x", 1023) + "\n")
		const lines = 4096
		for range lines {
			if n, err := l.Write(line); n != len(line) || err != nil {
				t.Fatal(n, err)
			}
			synctest.Wait() // the writer has what it can take
		}
		dropped := l.Metrics()[0].Value
		if want := float64(lines - 1 - maxUnread/len(line)); dropped != want { // one is being written
			t.Errorf("%v lines were dropped, want %v", dropped, want)
		}
		var read bytes.Buffer
		var reading sync.WaitGroup
		reading.Go(func() { io.Copy(&read, r) })
		synctest.Wait()
		fmt.Fprintln(l, "later")
		l.Close()
		fmt.Fprintln(l, "too late")
		w.Close()
		reading.Wait()
		kept := strings.Count(read.String(), "xxx\n")
		if kept+int(dropped) != lines {
			t.Errorf("%d lines were read, %v dropped, %d written", kept, dropped, lines)
		}
		if got := read.String()[kept*len(line):]; !strings.Contains(got,
			fmt.Sprintf("level=WARN msg=\"lines of the log were dropped here, as nobody read them\" lines=%v\nlater\n", dropped)) ||
			strings.Contains(got, "too late") {
			t.Errorf("after them %s", got)
		}
	})
}

// A stop does not wait for ever for a reader that does not read.
func TestUnreadLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		l := NewLog(w, config.Log{})
		fmt.Fprintln(l, "stopped")
		l.Close()
		r.Close()
	})
}

// broken is a pipe whose reader went away, for a while.
type broken struct {
	bytes.Buffer
	gone bool
}

func (b *broken) Write(p []byte) (int, error) {
	if b.gone {
		return 0, errors.New("broken pipe")
	}
	return b.Buffer.Write(p)
}

func TestLogWithoutAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &broken{gone: true}
		l := NewLog(w, config.Log{Level: "info", Format: "json"})
		fmt.Fprint(l, "one\n")
		synctest.Wait()
		fmt.Fprint(l, "two\n")
		synctest.Wait()
		if n := l.Metrics()[0].Value; n != 2 {
			t.Errorf("%v lines were dropped, want 2", n)
		}
		w.gone = false
		fmt.Fprint(l, "three\n")
		l.Close()
		if got := w.String(); !strings.HasPrefix(got, "three\n{") || !strings.Contains(got, `"lines":2}`) {
			t.Errorf("got %s", got)
		}
	})
}
