package session

import (
	"fmt"
	"slices"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Purge ends every session of an application that was deleted, with its queue and without its will,
// and deletes the application's retained messages. It returns when all of that is deleted from the
// store, or with an error. The caller makes sure that nobody gets a grant for the application any
// more.
func (s *Sessions) Purge(application string) error {
	spaces := []*space{s.spaceOf(application), s.spaceOf("\x00" + application)} // of the application's devices, and of its anonymous readers
	for _, ses := range s.allSessions() {
		if slices.Contains(spaces, ses.space) {
			s.purge(ses)
		}
	}
	for _, sp := range spaces {
		sp.clear()
	}
	if s.journal == nil {
		return nil
	}
	done := make(chan error, 1)
	s.journal.commit(func(err error) { done <- err })
	if err := <-done; err != nil {
		return fmt.Errorf("deleting the MQTT sessions and retained messages of application %s: %w", application, err)
	}
	return nil
}

// purge ends one session.
func (s *Sessions) purge(ses *session) {
	ses.mu.Lock()
	c := ses.link
	ses.will.Drop()
	ses.will = nil
	ses.mu.Unlock()
	s.endSession(ses)
	if c != nil {
		c.Close(packet.CodeNotAuthorized, "the application was deleted")
	}
}

// clear deletes all retained messages.
func (sp *space) clear() {
	sp.mu.Lock()
	gone := sp.retained
	sp.retained = retained{}
	sp.mu.Unlock()
	if j := sp.server.journal; j != nil {
		gone.tree.Each(func(m *Message) { j.delete(retainedKey(sp.name, m.Topic)) })
	}
}
