package plugin

import (
	"errors"
	"time"
)

// Manifest is what a plugin says of itself, as JSON in the custom section
// "tributary.manifest" of its module.
type Manifest struct {
	Name        string `json:"name"`    // [a-z0-9-], at most 64 bytes
	Version     string `json:"version"` // semantic version
	ABI         int    `json:"abi"`     // 1
	Description string `json:"description,omitempty"`
	Author      string `json:"author,omitempty"`
	License     string `json:"license,omitempty"`
	Homepage    string `json:"homepage,omitempty"`
	Wants       Wants  `json:"wants"`
}

// Wants is what a plugin asks the operator for; the fields are those of Grant.
type Wants struct {
	Publish     []string `json:"publish,omitempty"`
	Emit        []string `json:"emit,omitempty"`
	Pass        bool     `json:"pass,omitempty"`
	StateBytes  int64    `json:"state_bytes,omitempty"`
	MemoryBytes int64    `json:"memory_bytes,omitempty"`
	Fuel        int64    `json:"fuel,omitempty"`
	Deadline    Duration `json:"deadline,omitempty"`
}

// Duration is a time.Duration that JSON writes as "50ms".
type Duration time.Duration

// ParseManifest reads the JSON of a manifest. Unknown keys, wrong types and
// values out of bounds are errors.
func ParseManifest(json []byte) (Manifest, error) { return Manifest{}, errors.New("not built yet") }

// ExtractManifest returns the manifest in a module; found is false when the
// module has none.
func ExtractManifest(wasm []byte) (m Manifest, found bool, err error) {
	return Manifest{}, false, errors.New("not built yet")
}

// EmbedManifest returns the module with the manifest in it, in place of one
// that is there.
func EmbedManifest(wasm []byte, m Manifest) ([]byte, error) {
	return nil, errors.New("not built yet")
}
