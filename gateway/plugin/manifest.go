package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"tributary.io/gateway/plugin/meter"
)

// manifestSection is the custom section that holds the manifest.
const manifestSection = "tributary.manifest"

// maxManifest bounds the JSON of a manifest.
const maxManifest = 64 << 10

// Manifest is what a plugin says of itself, as JSON in the custom section
// "tributary.manifest" of its module.
type Manifest struct {
	Name        string `json:"name"`    // [a-z0-9-], at most 64 bytes
	Version     string `json:"version"` // as the author counts; at most 64 bytes
	ABI         int    `json:"abi"`     // 1
	Description string `json:"description,omitempty"`
	Author      string `json:"author,omitempty"`
	License     string `json:"license,omitempty"`
	Homepage    string `json:"homepage,omitempty"`
	Wants       Wants  `json:"wants"`
	// Settings are the settings that the plugin reads, by name. If it is nil, the plugin does not
	// say and gets any.
	Settings map[string]Setting `json:"settings,omitzero"`
}

// Wants is what a plugin asks the operator for. The fields are those of Grant, without private
// networks, which no plugin can ask for.
type Wants struct {
	Publish     []string `json:"publish,omitempty"`
	Emit        []string `json:"emit,omitempty"`
	Pass        bool     `json:"pass,omitempty"`
	About       bool     `json:"about,omitempty"`
	StateBytes  int64    `json:"state_bytes,omitempty"`
	Timers      int      `json:"timers,omitempty"`
	FileBytes   int64    `json:"file_bytes,omitempty"`
	Uploads     []string `json:"uploads,omitempty"`
	Hosts       []string `json:"hosts,omitempty"`
	Judge       Judge    `json:"judge,omitzero"`
	MemoryBytes int64    `json:"memory_bytes,omitempty"`
	Fuel        int64    `json:"fuel,omitempty"`
	Deadline    Duration `json:"deadline,omitempty"`
}

// Grant returns the grant that is just enough. What goes beyond it goes beyond the
// plugin's own wants.
func (w *Wants) Grant() *Grant {
	return &Grant{
		wanted:  true,
		Publish: w.Publish, Emit: w.Emit, Pass: w.Pass, About: w.About, StateBytes: w.StateBytes, Timers: w.Timers, Hosts: w.Hosts,
		Judge:     w.Judge,
		FileBytes: w.FileBytes, Uploads: w.Uploads,
		MemoryBytes: w.MemoryBytes, Fuel: w.Fuel, Deadline: time.Duration(w.Deadline),
	}
}

// Duration is a time.Duration that JSON writes as "50ms".
type Duration time.Duration

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration with its unit.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as \"50ms\"", text)
	}
	*d = Duration(v)
	return nil
}

// ParseManifest reads the JSON of a manifest. Unknown or repeated keys, wrong
// types and values out of bounds are errors.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := decodeStrict(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("plugin manifest: %w", err)
	}
	if err := m.validate(); err != nil {
		return Manifest{}, fmt.Errorf("plugin manifest: %w", err)
	}
	return m, nil
}

// decodeStrict decodes one JSON value and nothing else. encoding/json lets a key
// come twice and in any case; a manifest that reads differently to its reviewer
// than to the gateway is refused.
func decodeStrict(text []byte, into *Manifest) error {
	if len(text) > maxManifest {
		return fmt.Errorf("it has %d bytes, at most %d are possible", len(text), maxManifest)
	}
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	return checkKeys(json.NewDecoder(bytes.NewReader(text)))
}

// checkKeys refuses keys that are not lower case and keys that come twice in
// one object. The text is valid JSON.
func checkKeys(d *json.Decoder) error {
	type level struct {
		seen   map[string]bool // nil in an array
		expect bool            // a key comes next
	}
	var stack []level
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var top *level
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		if top != nil && top.expect {
			if key, ok := t.(string); ok {
				if key != string(bytes.ToLower([]byte(key))) || top.seen[key] {
					return fmt.Errorf("the key %q comes twice or is not in lower case", key)
				}
				top.seen[key], top.expect = true, false
				continue
			}
		}
		switch t {
		case json.Delim('{'):
			stack = append(stack, level{map[string]bool{}, true})
			continue
		case json.Delim('['):
			stack = append(stack, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 0 && stack[len(stack)-1].seen != nil {
			stack[len(stack)-1].expect = true
		}
	}
}

func (m *Manifest) validate() error {
	switch {
	case !validName(m.Name):
		return fmt.Errorf("name is %q: use 1 to 64 of a-z, 0-9 and -", m.Name)
	case m.Version == "" || len(m.Version) > 64:
		return fmt.Errorf("version is %q: use 1 to 64 bytes", m.Version)
	case m.ABI != 1:
		return fmt.Errorf("abi is %d, this gateway knows only 1: build the plugin with an SDK of this gateway's version", m.ABI)
	}
	for _, f := range []struct{ name, value string }{
		{"description", m.Description}, {"author", m.Author}, {"license", m.License}, {"homepage", m.Homepage},
	} {
		if len(f.value) > 1024 {
			return fmt.Errorf("%s has %d bytes, at most 1024 are possible", f.name, len(f.value))
		}
	}
	if err := m.Wants.Grant().Validate(); err != nil {
		return fmt.Errorf("wants: %w", err)
	}
	return validSettings(m.Settings)
}

func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// manifestOf returns the manifest among the custom sections of a module; the zero value
// if there is none.
func manifestOf(sections []meter.CustomSection) (m Manifest, err error) {
	found := false
	for _, s := range sections {
		if s.Name != manifestSection {
			continue
		}
		if found {
			return Manifest{}, errors.New("the module has two manifests")
		}
		found = true
		if m, err = ParseManifest(s.Data); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

// EmbedManifest returns the module with the manifest in it, in place of one
// that is there.
func EmbedManifest(wasm []byte, m Manifest) ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("plugin manifest: %w", err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("plugin manifest: %w", err)
	}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("plugin manifest: it has %d bytes, at most %d are possible", len(text), maxManifest)
	}
	return meter.SetCustom(wasm, manifestSection, text)
}
