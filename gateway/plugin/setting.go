package plugin

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tributary.io/gateway/outbound/place"
)

// Setting is one of a plugin's settings, as its manifest describes it, so that a
// misspelt one is found when the plugin is loaded and not by each of its events.
// Settings are texts; what they may be is said by Type and Values.
type Setting struct {
	// Type is "text" (also if empty), "boolean" ("true" or "false"), "integer", "number" or "url":
	// an address that the plugin calls, which its grant has to allow.
	Type string `koanf:"type" json:"type,omitempty"`
	// Values are the only possible ones; none: all of the type.
	Values []string `koanf:"values" json:"values,omitempty"`
	// Default is the value that the plugin assumes if the setting is not given; empty: none. It is
	// for people: the plugin does not get it.
	Default     string `koanf:"default" json:"default,omitempty"`
	Required    bool   `koanf:"required" json:"required,omitempty"` // it has to be given
	Description string `koanf:"description" json:"description,omitempty"`
}

// Bounds of the settings of a manifest.
const (
	maxSettings     = 64
	maxSettingBytes = 1024
)

// validSettings says what is impossible in a manifest's settings.
func validSettings(settings map[string]Setting) error {
	if len(settings) > maxSettings {
		return fmt.Errorf("there are %d settings, at most %d are possible", len(settings), maxSettings)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s := settings[name]
		if err := s.valid(name); err != nil {
			return fmt.Errorf("settings.%s: %w", name, err)
		}
	}
	return nil
}

func (s *Setting) valid(name string) error {
	if !validName(strings.ReplaceAll(name, "_", "-")) {
		return errors.New("a setting's name is 1 to 64 of a-z, 0-9, _ and -")
	}
	if !slices.Contains([]string{"", "text", "boolean", "integer", "number", "url"}, s.Type) {
		return fmt.Errorf("type is %q; use text, boolean, integer, number or url", s.Type)
	}
	if len(s.Description) > maxSettingBytes || len(s.Values) > maxListed {
		return fmt.Errorf("a description has at most %d bytes, and there are at most %d values", maxSettingBytes, maxListed)
	}
	values := Setting{Type: s.Type}
	for _, v := range s.Values {
		if err := values.check(v); err != nil {
			return fmt.Errorf("values: %w", err)
		}
	}
	if s.Default == "" {
		return nil
	}
	if s.Required {
		return errors.New("it is required, so it has no default")
	}
	if err := s.check(s.Default); err != nil {
		return fmt.Errorf("default: %w", err)
	}
	return nil
}

// check says why a value is not one of the setting's.
func (s *Setting) check(value string) error {
	if len(s.Values) > 0 && !slices.Contains(s.Values, value) {
		return fmt.Errorf("%q is none of its values; use %s", value, oneOf(s.Values))
	}
	var err error
	switch s.Type {
	case "boolean":
		if value != "true" && value != "false" {
			return fmt.Errorf("%q is neither true nor false", value)
		}
	case "integer":
		if _, err = strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Errorf("%q is no whole number", value)
		}
	case "number":
		if _, err = strconv.ParseFloat(value, 64); err != nil {
			return fmt.Errorf("%q is no number", value)
		}
	case "url":
		if _, _, err = place.CheckURL(value, nil); err != nil {
			return err
		}
	}
	if !utf8.ValidString(value) {
		return errors.New("it is no UTF-8")
	}
	return nil
}

// checkSettings says what is wrong with the settings of a plugin that goes by a name
// in gateway.toml, all of it, in the words of its manifest. hosts are those that the
// plugin may call: a URL beyond them would fail the event that needs it.
func (m *Manifest) checkSettings(plugin string, given map[string]string, hosts []place.Host) error {
	if m.Settings == nil {
		return nil
	}
	var errs []error
	names := slices.Sorted(maps.Keys(m.Settings))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		key := fmt.Sprintf("plugins.%s.settings.%s", plugin, name)
		s, known := m.Settings[name]
		switch {
		case !known && len(names) == 0:
			errs = append(errs, fmt.Errorf("%s is unknown; plugin %s has no settings", key, m.Name))
		case !known:
			errs = append(errs, fmt.Errorf("%s is unknown; the settings of plugin %s are %s", key, m.Name, strings.Join(names, ", ")))
		default:
			if err := s.check(given[name]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			} else if host := s.calls(given[name], hosts); host != "" {
				errs = append(errs, fmt.Errorf("%s: the plugin may not call %s: add it to plugins.%s.grant.hosts", key, host, plugin))
			}
		}
	}
	for _, name := range names {
		if _, ok := given[name]; !ok && m.Settings[name].Required {
			errs = append(errs, fmt.Errorf("plugins.%s.settings.%s is missing: %s", plugin, name, m.Settings[name].Description))
		}
	}
	return errors.Join(errs...)
}

// calls returns the host of a URL that none of the hosts covers; empty: the setting is
// no URL, or one of them does.
func (s *Setting) calls(value string, hosts []place.Host) string {
	if s.Type != "url" {
		return ""
	}
	u, covered, err := place.CheckURL(value, hosts)
	if err != nil || covered {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Called returns the hosts of the URLs among settings, as a grant names them.
func (m *Manifest) Called(settings map[string]string) []string {
	var hosts []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s := m.Settings[name]
		if host := s.calls(settings[name], nil); host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// oneOf lists words for people.
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
