package config

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// burst is how many lines with the same message are logged at once; after that one a
	// second is.
	burst = 20
	// maxMessages bounds the messages that are remembered. They are constants of the program,
	// some hundred.
	maxMessages = 1024
)

// repeats bounds how often a message is logged, be it about something else each time: a disk
// that is full makes thousands of lines a second, which say what the first ones did. A line
// that is logged again says how many were left out before it.
type repeats struct {
	slog.Handler
	seen *seenMessages
}

type seenMessages struct {
	now func() time.Time

	mu       sync.Mutex
	messages map[string]*seenMessage
}

type seenMessage struct {
	tokens  float64
	at      time.Time
	omitted uint64
}

func newRepeats(h slog.Handler, now func() time.Time) repeats {
	return repeats{h, &seenMessages{now: now, messages: map[string]*seenMessage{}}}
}

// Handle implements slog.Handler.
func (r repeats) Handle(ctx context.Context, line slog.Record) error {
	if line.Level < slog.LevelInfo { // who asks for everything gets it
		return r.Handler.Handle(ctx, line)
	}
	omitted, ok := r.seen.take(line.Message)
	if !ok {
		return nil
	}
	if omitted > 0 {
		line = line.Clone()
		line.AddAttrs(slog.Uint64("omitted", omitted))
	}
	return r.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (r repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return repeats{r.Handler.WithAttrs(attrs), r.seen}
}

// WithGroup implements slog.Handler.
func (r repeats) WithGroup(name string) slog.Handler {
	return repeats{r.Handler.WithGroup(name), r.seen}
}

// take says whether a message may be logged now, and how many like it were left out since it
// last was.
func (s *seenMessages) take(message string) (omitted uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	m := s.messages[message]
	if m == nil {
		if len(s.messages) >= maxMessages {
			return 0, true
		}
		m = &seenMessage{tokens: burst, at: now}
		s.messages[message] = m
	}
	m.tokens = min(burst, m.tokens+now.Sub(m.at).Seconds())
	m.at = now
	if m.tokens < 1 {
		m.omitted++
		return 0, false
	}
	m.tokens--
	omitted, m.omitted = m.omitted, 0
	return omitted, true
}
