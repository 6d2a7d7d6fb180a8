package session

import (
	"strings"
	"time"
)

// retained keeps the retained messages of a space by topic level, so that a
// filter with wildcards visits only what it may match. The space's lock guards it.
type retained struct {
	root         leaf
	count, bytes int
	expiry       expiry
}

type leaf struct {
	children map[string]*leaf
	m        *Message
}

// overhead is what a retained message counts beyond its topic and payload, and
// leafBytes what each level counts that it alone has: a leaf with a map for one more.
const (
	overhead  = 128
	leafBytes = 272
)

// set stores the message of a topic, or deletes it when the payload is empty
// [MQTT-3.3.1-6]. It is false when a limit forbids it.
func (r *retained) set(m *Message, maxCount, maxBytes int) bool {
	if len(m.Payload) == 0 {
		if old := r.get(m.Topic); old != nil {
			r.delete(old)
		}
		return true
	}
	count, size := r.with(m)
	if count > maxCount || size > maxBytes {
		return false
	}
	r.count, r.bytes = count, size
	n := &r.root
	for rest, more := m.Topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := n.children[level]
		if child == nil {
			child = new(leaf)
			if n.children == nil {
				n.children = make(map[string]*leaf)
			}
			n.children[strings.Clone(level)] = child // it may outlive the message
		}
		n = child
	}
	n.m = m
	r.expiry.note(m.Expires)
	return true
}

// room says whether the limits allow to set a message.
func (r *retained) room(m *Message, maxCount, maxBytes int) bool {
	if len(m.Payload) == 0 {
		return true
	}
	count, size := r.with(m)
	return count <= maxCount && size <= maxBytes
}

// with is how many messages there would be with one more, and their bytes.
func (r *retained) with(m *Message) (count, size int) {
	old, lacking := r.find(m.Topic)
	count, size = r.count+1, r.bytes+m.size()+overhead+lacking*leafBytes
	if old != nil {
		count, size = r.count, size-old.size()-overhead
	}
	return count, size
}

func (r *retained) get(topic string) *Message {
	m, _ := r.find(topic)
	return m
}

// find returns the message of a topic, if there is one, and how many of its levels
// have no leaf yet.
func (r *retained) find(topic string) (m *Message, lacking int) {
	n := &r.root
	for rest, more := topic, true; more; {
		var level string
		if level, rest, more = strings.Cut(rest, "/"); n != nil {
			n = n.children[level]
		}
		if n == nil {
			lacking++
		}
	}
	if n == nil {
		return nil, lacking
	}
	return n.m, 0
}

func (r *retained) delete(m *Message) {
	r.count--
	r.bytes -= m.size() + overhead + leafBytes*r.root.delete(m.Topic, true)
}

// delete takes a message out, and says how many leaves went with it.
func (l *leaf) delete(rest string, more bool) (gone int) {
	if !more {
		l.m = nil
		return 0
	}
	level, rest, more := strings.Cut(rest, "/")
	child := l.children[level]
	if gone = child.delete(rest, more); child.m == nil && len(child.children) == 0 {
		delete(l.children, level)
		gone++
	}
	return gone
}

// match returns the messages whose topic matches the filter, and forgets those
// that have expired [MQTT-3.3.2-5].
func (r *retained) match(filter string, now time.Time) []*Message {
	var found, late []*Message
	r.root.match(filter, true, true, func(m *Message) {
		if m.expired(now) {
			late = append(late, m)
		} else {
			found = append(found, m)
		}
	})
	for _, m := range late {
		r.delete(m)
	}
	return found
}

// purge forgets every message that has expired.
func (r *retained) purge(now time.Time) {
	if !r.expiry.due(now) {
		return
	}
	r.expiry = expiry{}
	var late []*Message
	r.root.each(func(m *Message) {
		if m.expired(now) {
			late = append(late, m)
		} else {
			r.expiry.note(m.Expires)
		}
	})
	for _, m := range late {
		r.delete(m)
	}
}

func (l *leaf) each(fn func(*Message)) {
	if l.m != nil {
		fn(l.m)
	}
	for _, child := range l.children {
		child.each(fn)
	}
}

func (l *leaf) match(rest string, more, first bool, found func(*Message)) {
	if !more {
		if l.m != nil {
			found(l.m)
		}
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	switch level {
	case "#":
		if l.m != nil { // "a/#" matches "a"; the root holds none
			found(l.m)
		}
		for name, child := range l.children {
			if !(first && strings.HasPrefix(name, "$")) { // [MQTT-4.7.2-1]
				child.each(found)
			}
		}
	case "+":
		for name, child := range l.children {
			if !(first && strings.HasPrefix(name, "$")) {
				child.match(rest, more, false, found)
			}
		}
	default:
		if child := l.children[level]; child != nil {
			child.match(rest, more, false, found)
		}
	}
}
