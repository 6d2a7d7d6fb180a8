package session

import "strings"

// subscription is a session's wish for the messages of one filter. It is not
// changed once the trie holds it; subscribing again replaces it.
type subscription struct {
	session  *session
	filter   string // without $share/<group>/
	group    string // of a shared subscription; else empty
	qos      byte
	noLocal  bool
	asIs     bool // retain as published
	byPlugin bool // a plugin granted it, so the grant's filters do not judge it
	ids      []uint32
}

// trie finds the subscriptions that match a topic. Its space's lock guards it.
type trie struct {
	root  node
	count int
}

// node is one level of a filter. Its subscriptions are those whose filter ends
// here.
type node struct {
	children map[string]*node
	subs     []*subscription // at most one per session
	groups   []*group
}

func (n *node) empty() bool {
	return len(n.children) == 0 && len(n.subs) == 0 && len(n.groups) == 0
}

// add inserts a subscription, and returns the one of the same session, filter
// and group that it replaces, if any.
func (t *trie) add(sub *subscription) (replaced *subscription) {
	n := &t.root
	for rest, more := sub.filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := n.children[level]
		if child == nil {
			child = new(node)
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			n.children[strings.Clone(level)] = child
		}
		n = child
	}
	if sub.group != "" {
		replaced = n.join(sub)
	} else {
		n.subs, replaced = put(n.subs, sub)
	}
	if replaced == nil {
		t.count++
	}
	return replaced
}

// put sets the subscription of a session in a list.
func put(list []*subscription, sub *subscription) ([]*subscription, *subscription) {
	for i, old := range list {
		if old.session == sub.session {
			list[i] = sub
			return list, old
		}
	}
	return append(list, sub), nil
}

// cut removes the subscription of a session from a list.
func cut(list []*subscription, s *session) ([]*subscription, bool) {
	for i, old := range list {
		if old.session == s {
			last := len(list) - 1
			list[i] = list[last]
			list[last] = nil
			return list[:last], true
		}
	}
	return list, false
}

// remove takes a subscription out, and with it the nodes that nobody needs any
// more.
func (t *trie) remove(sub *subscription) {
	if t.root.remove(sub, sub.filter, true) {
		t.count--
	}
}

func (n *node) remove(sub *subscription, rest string, more bool) (found bool) {
	if !more {
		if sub.group != "" {
			return n.leave(sub)
		}
		n.subs, found = cut(n.subs, sub.session)
		return found
	}
	level, rest, more := strings.Cut(rest, "/")
	child := n.children[level]
	if child == nil {
		return false
	}
	found = child.remove(sub, rest, more)
	if child.empty() {
		delete(n.children, level)
	}
	return found
}

// group finds the shared group of a filter.
func (t *trie) group(filter, name string) *group {
	n := &t.root
	for rest, more := filter, true; more && n != nil; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		n = n.children[level]
	}
	if n != nil {
		for _, g := range n.groups {
			if g.name == name {
				return g
			}
		}
	}
	return nil
}

// matches collects what matches one topic. nodes counts the places that
// subscriptions came from: from one place, no session can be met twice.
type matches struct {
	subs   []*subscription
	shared []*group
	nodes  int
}

func (m *matches) take(n *node) {
	if len(n.subs) > 0 {
		m.subs = append(m.subs, n.subs...)
		m.nodes++
	}
	m.shared = append(m.shared, n.groups...)
}

// match collects the subscriptions and groups whose filter matches the topic,
// section 4.7.
func (t *trie) match(topic string, into *matches) {
	t.root.match(topic, true, topic != "" && topic[0] == '$', into)
}

// match goes on below n with the rest of a topic; more says that there is one,
// literal that wildcards do not count here [MQTT-4.7.2-1].
func (n *node) match(rest string, more, literal bool, into *matches) {
	if !literal {
		if any := n.children["#"]; any != nil {
			into.take(any)
		}
	}
	if !more {
		into.take(n)
		return
	}
	if len(n.children) == 0 {
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.children[level]; child != nil {
		child.match(rest, more, false, into)
	}
	if !literal {
		if any := n.children["+"]; any != nil {
			any.match(rest, more, false, into)
		}
	}
}
