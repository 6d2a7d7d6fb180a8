package config

import (
	"slices"
	"strings"
	"testing"
)

func TestRouteWarnings(t *testing.T) {
	const plugins = "[plugins.p]\npath = \"p.wasm\"\n[plugins.q]\npath = \"q.wasm\"\ngrant.pass = true\n"
	for _, tt := range []struct {
		name, routes string // a route a line: application, plugin, type, topic, attribute
		there        map[string]bool
		want         []string // beginnings
	}{
		{"fine", "a p - t\na p - u\n* q", map[string]bool{"a": false, "b": false}, nil},
		{"neither", "a p", map[string]bool{"a": false, "b": false, "c": true}, []string{"applications.b has neither a route nor messaging"}},
		{"another application", "aa p", map[string]bool{"ab": true},
			[]string{`routes[0].application is "aa", and no application of this name is there yet; did you mean "ab"?`}},
		{"everything above", "a p\na p - t/#\n", map[string]bool{"a": false}, []string{"routes[1] gets nothing, as routes[0] stands above it"}},
		{"of every application", "* p\na p\n", map[string]bool{"a": false}, []string{"routes[1] gets nothing"}},
		{"of one application", "a p\n* p\n", map[string]bool{"a": false}, nil},
		{"a wider filter", "a p - +/b\na p - t/b\na p - $t/b", map[string]bool{"a": false}, []string{"routes[1] gets nothing, as routes[0]"}},
		{"a topic says nothing of other types", "a p - t\na p io.tributary.connection.v1 u\na p io.tributary.publish.v1 u",
			map[string]bool{"a": false}, []string{"routes[1] gets nothing"}},
		{"the same type", "a p x.y\na p x.y t\na p x.z", map[string]bool{"a": false}, []string{"routes[1] gets nothing"}},
		{"fewer attributes", "a p - - k=v\na p - - k=v\na p - - k=w\na p", map[string]bool{"a": false}, []string{"routes[1] gets nothing"}},
		{"passed on", "a q\na p\nb p\n", map[string]bool{"a": false, "b": false}, nil},
		{"passed on before", "a q - x\na p\na p - y", map[string]bool{"a": false}, nil},
		{"passed on elsewhere", "b q\na p\na p - y", map[string]bool{"a": false, "b": false}, []string{"routes[2] gets nothing, as routes[1]"}},
	} {
		text := plugins
		for line := range strings.Lines(tt.routes) {
			words := append(strings.Fields(line), "-", "-", "-")
			text += "[[routes]]\n"
			for i, key := range []string{"application", "plugin", "type", "topic"} {
				if words[i] != "-" {
					text += key + " = \"" + words[i] + "\"\n"
				}
			}
			if name, value, ok := strings.Cut(words[4], "="); ok {
				text += "attributes." + name + " = \"" + value + "\"\n"
			}
		}
		cfg, err := Load(Sources{File: write(t, []byte(text))})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := cfg.RouteWarnings(tt.there, false)
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
