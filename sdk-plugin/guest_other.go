//go:build !wasip1

package sdk

import "tributary.io/sdk-plugin/jsontext"

// Handle makes h the plugin's handler. Call it while the program initialises,
// because main never runs in a plugin:
//
//	var _ = sdk.Handle(decode)
//
// Outside of a plugin it does nothing; tests call the handler through Run.
func Handle(h Handler) struct{} { return struct{}{} }

func index(nodes []jsontext.Node, text []byte) ([]jsontext.Node, bool) {
	return jsontext.Append(nodes, text)
}
