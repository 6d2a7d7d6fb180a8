package topic

import (
	"strings"
	"sync/atomic"
)

// Subscription is what a FilterTree holds, usually a pointer.
type Subscription[S any] interface {
	// SameSubscriber reports whether both subscriptions belong to one subscriber. A
	// subscriber has at most one subscription for each filter and share name.
	SameSubscriber(S) bool
}

// FilterTree finds the subscriptions whose filters match a topic name, section 4.7. The zero
// value is an empty tree. Filters and names must be valid. Methods that do not change the
// tree may be called concurrently with each other, but not with those that do.
type FilterTree[S Subscription[S]] struct {
	root  filterNode[S]
	count int
}

// filterNode is one level of a filter. It holds the subscriptions whose filter ends here.
type filterNode[S Subscription[S]] struct {
	children      map[string]*filterNode[S]
	subscriptions []S
	shares        []*Share[S]
}

// Share is one shared subscription, $share/<name>/<filter>, section 4.8.2: the subscriptions
// of all its members. The lock of the tree also guards the members.
type Share[S any] struct {
	name    string
	members []S
	turn    atomic.Uint32 // atomic, since NextTurn may be called concurrently
}

// Members returns the subscriptions, at least one. The slice belongs to the tree: the caller
// must neither change it nor use it after the next change of the tree.
func (s *Share[S]) Members() []S { return s.members }

// NextTurn returns the index of the member whose turn it is, and moves the turn on.
func (s *Share[S]) NextTurn() int { return int(s.turn.Add(1) % uint32(len(s.members))) }

// Matches collects what matches a name. Match appends to it, so that a caller can reuse it.
type Matches[S any] struct {
	Subscriptions []S         // not shared
	Shares        []*Share[S] // one subscription of each is to be chosen
	// Filters is how many filters Subscriptions came from. If it is 1, no subscriber is
	// in there twice.
	Filters int
}

// Len returns how many subscriptions the tree holds.
func (t *FilterTree[S]) Len() int { return t.count }

// Put adds a subscription, and returns the one that it replaces: of the same subscriber,
// filter and share. share is the name of a shared subscription, or empty.
func (t *FilterTree[S]) Put(filter, share string, sub S) (old S, replaced bool) {
	n := &t.root
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := n.children[level]
		if child == nil {
			child = new(filterNode[S])
			if n.children == nil {
				n.children = make(map[string]*filterNode[S])
			}
			n.children[strings.Clone(level)] = child // it may outlive the subscription
		}
		n = child
	}
	list := &n.subscriptions
	if share != "" {
		s := n.share(share)
		if s == nil {
			s = &Share[S]{name: share}
			n.shares = append(n.shares, s)
		}
		list = &s.members
	}
	if old, replaced = put(list, sub); !replaced {
		t.count++
	}
	return old, replaced
}

// Delete removes the subscription of sub's subscriber, if there is one.
func (t *FilterTree[S]) Delete(filter, share string, sub S) {
	if t.root.delete(filter, true, share, sub) {
		t.count--
	}
}

// delete removes a subscription below n, and the nodes that become empty. more means that the
// filter has a rest.
func (n *filterNode[S]) delete(rest string, more bool, share string, sub S) (found bool) {
	if !more {
		return n.drop(share, sub)
	}
	level, rest, more := strings.Cut(rest, "/")
	child := n.children[level]
	if child == nil {
		return false
	}
	found = child.delete(rest, more, share, sub)
	if len(child.children) == 0 && len(child.subscriptions) == 0 && len(child.shares) == 0 {
		delete(n.children, level)
	}
	return found
}

func (n *filterNode[S]) drop(share string, sub S) (found bool) {
	if share == "" {
		return cut(&n.subscriptions, sub)
	}
	for i, s := range n.shares {
		if s.name == share {
			found = cut(&s.members, sub)
			if len(s.members) == 0 {
				n.shares = append(n.shares[:i:i], n.shares[i+1:]...)
			}
			return found
		}
	}
	return false
}

// Share returns a shared subscription, or nil.
func (t *FilterTree[S]) Share(filter, name string) *Share[S] {
	n := &t.root
	for rest, more := filter, true; more && n != nil; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		n = n.children[level]
	}
	if n == nil {
		return nil
	}
	return n.share(name)
}

func (n *filterNode[S]) share(name string) *Share[S] {
	for _, s := range n.shares {
		if s.name == name {
			return s
		}
	}
	return nil
}

// put sets the subscription of a subscriber in a list.
func put[S Subscription[S]](list *[]S, sub S) (old S, replaced bool) {
	for i, old := range *list {
		if old.SameSubscriber(sub) {
			(*list)[i] = sub
			return old, true
		}
	}
	*list = append(*list, sub)
	return old, false
}

// cut removes the subscription of a subscriber from a list.
func cut[S Subscription[S]](list *[]S, sub S) (found bool) {
	for i, old := range *list {
		if old.SameSubscriber(sub) {
			last := len(*list) - 1
			(*list)[i] = (*list)[last]
			clear((*list)[last:]) // let go of it
			*list = (*list)[:last]
			return true
		}
	}
	return false
}

// Match collects the subscriptions and shared subscriptions whose filter matches a name.
func (t *FilterTree[S]) Match(name string, into *Matches[S]) {
	t.root.match(name, true, name != "" && name[0] == '$', into)
}

// match collects the matches below n. more means that the name has a rest, literal that
// wildcards do not match the first level of the rest, [MQTT-4.7.2-1].
func (n *filterNode[S]) match(rest string, more, literal bool, into *Matches[S]) {
	if !literal {
		if any := n.children["#"]; any != nil {
			any.addTo(into)
		}
	}
	if !more {
		n.addTo(into)
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

func (n *filterNode[S]) addTo(m *Matches[S]) {
	if len(n.subscriptions) > 0 {
		m.Subscriptions = append(m.Subscriptions, n.subscriptions...)
		m.Filters++
	}
	m.Shares = append(m.Shares, n.shares...)
}
