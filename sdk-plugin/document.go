package sdk

import (
	"unsafe"

	"tributary.io/sdk-plugin/jsontext"
	"tributary.io/sdk-plugin/wire"
)

// document is a checked JSON text with its nodes.
type document struct {
	text  []byte
	nodes []jsontext.Node
}

// firstNodes is the room of a document that has seen no text.
const firstNodes = 64

// parse checks a text and returns its root. The nodes of an earlier text are
// overwritten.
func (d *document) parse(b []byte) Value {
	if d.nodes == nil {
		d.nodes = make([]jsontext.Node, 0, firstNodes)
	}
	d.text = b
	var ok bool
	if d.nodes, ok = index(d.nodes[:0], b); !ok {
		return Value{}
	}
	return Value{d, 0}
}

// inside is the text of a string without its quotes.
func (d *document) inside(n *jsontext.Node) []byte { return d.text[n.Start+1 : n.End-1] }

// member finds the value of a member among the nodes from first up to end; 0 is
// none. Of several members with the name the last one counts. Pointers take the
// place of slices here: WebAssembly pays for each branch, bounds checks included.
// Nodes lie within the text and each other, which the index saw to.
func (d *document) member(first, end uint32, name string) (found uint32) {
	text, nodes := unsafe.Pointer(unsafe.SliceData(d.text)), unsafe.Pointer(unsafe.SliceData(d.nodes))
	const size = unsafe.Sizeof(jsontext.Node{})
	quoted := uint32(len(name)) + 2
	for at := first; at < end; {
		k := (*jsontext.Node)(unsafe.Add(nodes, uintptr(at)*size))
		if k.Next != 0 {
			if unquote(d.inside(k)) == name {
				found = at + 1
			}
		} else if k.End-k.Start == quoted && wire.EqualShort(unsafe.Add(text, k.Start+1), unsafe.Pointer(unsafe.StringData(name)), len(name)) {
			found = at + 1
		}
		at = (*jsontext.Node)(unsafe.Add(nodes, uintptr(at+1)*size)).Next
	}
	return found
}
