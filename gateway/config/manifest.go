package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/knadh/koanf/v2"

	"tributary.io/gateway/plugin"
)

// manifest has the keys of a plugin.toml: those of plugin.Manifest, and what a
// plugin wants with the keys that grant it.
type manifest struct {
	Name        string       `koanf:"name"`
	Version     string       `koanf:"version"`
	ABI         int          `koanf:"abi"`
	Description string       `koanf:"description"`
	Author      string       `koanf:"author"`
	License     string       `koanf:"license"`
	Homepage    string       `koanf:"homepage"`
	Wants       plugin.Grant `koanf:"wants"`

	Settings map[string]plugin.Setting `koanf:"settings"`
}

func manifestSchema() *node {
	n := newSchema(reflect.TypeFor[manifest]())
	delete(n.fields["wants"].fields, "private_networks") // not for a plugin to ask for
	return n
}

// ParseManifest reads a plugin.toml, which errors call file: the manifest's fields
// as TOML. Sizes and durations may be written as in gateway.toml; abi may be left
// out, then it is 1.
func ParseManifest(file string, text []byte) (plugin.Manifest, error) {
	l := &loader{schema: manifestSchema(), origin: map[string]string{}, user: koanf.New(delimiter)}
	l.parse(file, text)
	if len(l.problems) > 0 {
		return plugin.Manifest{}, errors.Join(l.problems...)
	}
	m := l.user.Raw()
	if _, given := m["abi"]; !given {
		m["abi"] = 1
	}
	if wants, ok := m["wants"].(map[string]any); ok {
		if d, ok := wants["deadline"].(time.Duration); ok {
			wants["deadline"] = d.String()
		}
	}
	asJSON, err := json.Marshal(m)
	if err != nil {
		return plugin.Manifest{}, fmt.Errorf("%s: writing the manifest as JSON: %w", file, err)
	}
	parsed, err := plugin.ParseManifest(asJSON)
	if err != nil {
		return plugin.Manifest{}, fmt.Errorf("%s: %w", file, err)
	}
	return parsed, nil
}
