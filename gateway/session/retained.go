package session

import (
	"time"

	"tributary.io/gateway/topic"
)

// retained holds the retained messages of a space, by topic. The space's mu guards it.
type retained struct {
	tree   topic.NameTree[*Message]
	bytes  int
	expiry expiry
}

// overhead is what each retained message counts in addition to its topic and payload. levelBytes is
// what a node of the tree of topics counts: a message counts the nodes that it alone has.
const (
	overhead   = 128
	levelBytes = 272
)

// set stores the message of a topic, or deletes it if the payload is empty [MQTT-3.3.1-6]. It
// returns false if a limit does not allow it.
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
	r.bytes = size
	r.tree.Put(m.Topic, m)
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

// with returns how many messages there would be with one more, and their size in bytes.
func (r *retained) with(m *Message) (count, size int) {
	old, missing := r.tree.Find(m.Topic)
	count, size = r.tree.Len()+1, r.bytes+m.size()+overhead+missing*levelBytes
	if old != nil {
		count, size = r.tree.Len(), size-old.size()-overhead
	}
	return count, size
}

func (r *retained) get(name string) *Message { return r.tree.Get(name) }

// delete removes a retained message.
func (r *retained) delete(m *Message) {
	r.bytes -= m.size() + overhead + levelBytes*r.tree.Delete(m.Topic)
}

// match returns the messages whose topics match the filter, and removes those that have expired
// [MQTT-3.3.2-5].
func (r *retained) match(filter string, now time.Time) []*Message {
	var found, late []*Message
	r.tree.Match(filter, func(m *Message) {
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

// purge removes every message that has expired.
func (r *retained) purge(now time.Time) {
	if !r.expiry.due(now) {
		return
	}
	r.expiry = expiry{}
	var late []*Message
	r.tree.Each(func(m *Message) {
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
