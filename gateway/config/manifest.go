package config

import (
	"encoding/json"
	"fmt"

	"github.com/knadh/koanf/parsers/toml/v2"

	"tributary.io/gateway/plugin"
)

// ParseManifest reads a plugin.toml: the manifest's fields as TOML. Sizes may be
// written as in gateway.toml; abi may be left out, then it is 1.
func ParseManifest(text []byte) (plugin.Manifest, error) {
	m, err := toml.Parser().Unmarshal(text)
	if err != nil {
		return plugin.Manifest{}, fmt.Errorf("this is no TOML: %w", err)
	}
	if _, given := m["abi"]; !given {
		if m == nil {
			m = map[string]any{}
		}
		m["abi"] = 1
	}
	if wants, ok := m["wants"].(map[string]any); ok {
		grant := schema().find("plugins.any.grant")
		for key, v := range wants {
			if size, ok := v.(string); ok && isSize(key) && grant.child(key) != nil {
				if wants[key], err = grant.child(key).convert(key, size, false); err != nil {
					return plugin.Manifest{}, fmt.Errorf("wants.%s %w", key, err)
				}
			}
		}
	}
	asJSON, err := json.Marshal(m)
	if err != nil {
		return plugin.Manifest{}, fmt.Errorf("writing the manifest as JSON: %w", err)
	}
	return plugin.ParseManifest(asJSON)
}
