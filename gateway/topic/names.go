package topic

import "strings"

// NameTree holds a value for each of many topic names, such as a retained message, and finds
// those whose name a filter matches. It visits only the levels that can match. A zero V means
// no value. The zero NameTree is empty. Names and filters must be valid. Methods that do not
// change the tree may be called concurrently with each other, but not with those that do.
type NameTree[V comparable] struct {
	root  nameNode[V]
	count int
}

// nameNode is one level of a name.
type nameNode[V comparable] struct {
	children map[string]*nameNode[V]
	value    V // of the name that ends here
}

// Len returns how many names have a value.
func (t *NameTree[V]) Len() int { return t.count }

// Get returns the value of a name, or zero.
func (t *NameTree[V]) Get(name string) V {
	v, _ := t.Find(name)
	return v
}

// Find returns the value of a name, or zero, and how many levels Put would add to the tree.
func (t *NameTree[V]) Find(name string) (v V, missing int) {
	n := &t.root
	for rest, more := name, true; more; {
		var level string
		if level, rest, more = strings.Cut(rest, "/"); n != nil {
			n = n.children[level]
		}
		if n == nil {
			missing++
		}
	}
	if n == nil {
		return v, missing
	}
	return n.value, 0
}

// Put sets the value of a name. v is not zero.
func (t *NameTree[V]) Put(name string, v V) {
	n := &t.root
	for rest, more := name, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := n.children[level]
		if child == nil {
			child = new(nameNode[V])
			if n.children == nil {
				n.children = make(map[string]*nameNode[V])
			}
			n.children[strings.Clone(level)] = child // it may outlive the value
		}
		n = child
	}
	if n.empty() {
		t.count++
	}
	n.value = v
}

// Delete removes the value of a name, and returns how many levels went with it: those that
// no other name has.
func (t *NameTree[V]) Delete(name string) (levels int) {
	levels, found := t.root.delete(name, true)
	if found {
		t.count--
	}
	return levels
}

func (n *nameNode[V]) delete(rest string, more bool) (levels int, found bool) {
	if !more {
		found = !n.empty()
		var none V
		n.value = none
		return 0, found
	}
	level, rest, more := strings.Cut(rest, "/")
	child := n.children[level]
	if child == nil {
		return 0, false
	}
	if levels, found = child.delete(rest, more); child.empty() && len(child.children) == 0 {
		delete(n.children, level)
		levels++
	}
	return levels, found
}

func (n *nameNode[V]) empty() bool {
	var none V
	return n.value == none
}

// Each calls fn for every value.
func (t *NameTree[V]) Each(fn func(V)) { t.root.each(fn) }

func (n *nameNode[V]) each(fn func(V)) {
	if !n.empty() {
		fn(n.value)
	}
	for _, child := range n.children {
		child.each(fn)
	}
}

// Match calls fn for the value of every name that a filter matches. fn does not change the tree.
func (t *NameTree[V]) Match(filter string, fn func(V)) { t.root.match(filter, true, true, fn) }

func (n *nameNode[V]) match(rest string, more, first bool, fn func(V)) {
	if !more {
		if !n.empty() {
			fn(n.value)
		}
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	switch level {
	case "#":
		if !n.empty() { // "a/#" matches "a"; the root has no value
			fn(n.value)
		}
		for name, child := range n.children {
			if !(first && strings.HasPrefix(name, "$")) { // [MQTT-4.7.2-1]
				child.each(fn)
			}
		}
	case "+":
		for name, child := range n.children {
			if !(first && strings.HasPrefix(name, "$")) {
				child.match(rest, more, false, fn)
			}
		}
	default:
		if child := n.children[level]; child != nil {
			child.match(rest, more, false, fn)
		}
	}
}
