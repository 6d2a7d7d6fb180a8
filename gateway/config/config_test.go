package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/knadh/koanf/parsers/toml/v2"

	"tributary.io/gateway/listener/mqtt"
	"tributary.io/gateway/registry"
)

const reference = "../../gateway.toml"

// uncommented returns the reference with its examples switched on.
func uncommented(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^#(\S)`).ReplaceAll(content, []byte("$1"))
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "gateway.toml")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The file without its applications, users, plugins and routes is the default.
func TestReferenceIsTheDefault(t *testing.T) {
	cfg, err := Load(Sources{File: reference})
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Plugins) != 1 || len(cfg.Routes) != 1 || len(cfg.Registry.Applications) != 1 || len(cfg.Registry.Users) != 0 {
		t.Errorf("the file holds more or less than the demo: %+v", cfg)
	}
	want := registry.DefaultApplication()
	want.Anonymous = true
	if d := cmp.Diff(want, cfg.Registry.Applications["demo"]); d != "" {
		t.Errorf("the demo differs from a default application in more than anonymous (-want +got):\n%s", d)
	}
	cfg.Plugins, cfg.Routes, cfg.Router.Routes, cfg.Registry.Applications = nil, nil, nil, nil
	if d := cmp.Diff(Default(), *cfg, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("gateway.toml against Default() (-default +file):\n%s", d)
	}
}

// Every key of the schema stands in the file, live or as an example, under a
// comment, and the examples load.
func TestReferenceNamesEveryKey(t *testing.T) {
	content := uncommented(t)
	if _, err := Load(Sources{File: write(t, content)}); err != nil {
		t.Errorf("with the examples switched on: %v", err)
	}
	m, err := toml.Parser().Unmarshal(content)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	gather(m, schema(), "", there)
	schema().leaves("", func(path string, _ *node) {
		if !there[path] {
			t.Errorf("gateway.toml does not name %s", path)
		}
	})
	file, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	before := ""
	for i, line := range strings.Split(string(file), "\n") {
		key := strings.TrimPrefix(line, "#")
		parts, rest := splitKey(key)
		if parts != nil && key != "" && key[0] != ' ' && strings.HasPrefix(rest, "=") && !strings.HasPrefix(before, "# ") {
			t.Errorf("gateway.toml:%d: no comment above %s", i+1, parts[0])
		}
		before = line
	}
}

// gather collects the paths of the values in m, with * for names and positions.
func gather(v any, n *node, path string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if n.kind == named {
				key = "*"
			}
			gather(inner, n.child(key), strings.TrimPrefix(path+"."+key, "."), into)
		}
	case []any:
		if n.kind == list {
			for _, item := range v {
				gather(item, n.elem, path+".*", into)
			}
			return
		}
		into[path] = true
	default:
		into[path] = true
	}
}

// Each file under testdata/bad is one case: its #! lines are the problems that
// loading it must name, in order, with FILE for the file's name.
func TestBadFiles(t *testing.T) {
	files, err := fs.Glob(os.DirFS("testdata/bad"), "*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			name := "testdata/bad/" + name
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(content)) {
				if line, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "#! "); ok {
					want = append(want, strings.ReplaceAll(line, "FILE", name))
				}
			}
			cfg, err := Load(Sources{File: name})
			if err == nil {
				t.Fatalf("it loads: %+v", cfg)
			}
			if d := cmp.Diff(want, strings.Split(err.Error(), "\n")); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

// text is what the environment and options say, and what comes of it.
func TestEnvironmentAndOptions(t *testing.T) {
	file := write(t, []byte(`
log.level = "warn"
admin.address = "127.0.0.1:1"
[applications.plant]
messaging = true
[applications.plant.devices."dev.1 x"]
disabled = true
`))
	load := func(env, set []string) (*Config, error) { return Load(Sources{File: file, Env: env, Set: set}) }
	tests := []struct {
		name     string
		env, set []string
		check    func(c *Config) any
		want     any
		problem  string
	}{
		{name: "the file over the default", check: func(c *Config) any { return c.Log.Level }, want: "warn"},
		{name: "environment over file", env: []string{"TRIBUTARY_LOG__LEVEL=error"}, check: func(c *Config) any { return c.Log.Level },
			want: "error"},
		{name: "option over environment", env: []string{"TRIBUTARY_LOG__LEVEL=error"}, set: []string{"log.level=debug"},
			check: func(c *Config) any { return c.Log.Level }, want: "debug"},
		{name: "the last option wins", set: []string{"log.level=debug", "log.level=error"}, check: func(c *Config) any { return c.Log.Level },
			want: "error"},
		{name: "key with underscores", env: []string{"TRIBUTARY_LISTENERS__MQTT__TCP__MAX_PACKET_BYTES=2MiB"},
			check: func(c *Config) any { return c.Listeners.MQTT["tcp"].Limits.MaxPacketBytes }, want: 2 << 20},
		{name: "number of bytes", env: []string{"TRIBUTARY_LISTENERS__MQTT__TCP__MAX_PACKET_BYTES=4096"},
			check: func(c *Config) any { return c.Listeners.MQTT["tcp"].Limits.MaxPacketBytes }, want: 4096},
		{name: "duration", set: []string{"consumer.group_expiry=3d"}, check: func(c *Config) any { return c.Consumer.GroupExpiry },
			want: 72 * time.Hour},
		{name: "boolean", set: []string{"admin.pprof=true"}, check: func(c *Config) any { return c.Admin.Pprof }, want: true},
		{name: "text that looks like a number", set: []string{"plugins.p.path=5", "plugins.p.settings.limit=007"},
			check: func(c *Config) any { return c.Plugins["p"].Settings["limit"] }, want: "007"},
		{name: "value with = in it", set: []string{"plugins.p.path=a=b"}, check: func(c *Config) any { return c.Plugins["p"].Path }, want: "a=b"},
		{name: "list", set: []string{"plugins.p.path=x", "plugins.p.grant.emit=a,b"},
			check: func(c *Config) any { return c.Plugins["p"].Grant.Emit }, want: []string{"a", "b"}},
		{name: "list as TOML", set: []string{"plugins.p.path=x", `plugins.p.grant.emit=["a,b", "c"]`},
			check: func(c *Config) any { return c.Plugins["p"].Grant.Emit }, want: []string{"a,b", "c"}},
		{name: "a shorter list replaces the default", set: []string{"applications.plant.devices.d.publish=up"},
			check: func(c *Config) any { return c.Registry.Applications["plant"].Devices["d"].Publish }, want: []string{"up"}},
		{name: "an empty list replaces the default", set: []string{"applications.plant.devices.d.publish="},
			check: func(c *Config) any { return c.Registry.Applications["plant"].Devices["d"].Publish }, want: []string{}},
		{name: "quoted name", set: []string{`applications.plant.devices."dev.1 x".disabled=false`},
			check: func(c *Config) any { return c.Registry.Applications["plant"].Devices["dev.1 x"].Disabled }, want: false},
		{name: "the file's other keys stay", set: []string{"applications.plant.anonymous=true"},
			check: func(c *Config) any { return c.Registry.Applications["plant"].Messaging }, want: true},
		{name: "defaults of a named application", set: []string{"applications.new.messaging=true"},
			check: func(c *Config) any { return c.Registry.Applications["new"].RetentionAge }, want: 168 * time.Hour},
		{name: "defaults of a named device", check: func(c *Config) any { return c.Registry.Applications["plant"].Devices["dev.1 x"].Subscribe },
			want: []string{"#"}},
		{name: "defaults of a named listener", set: []string{"listeners.mqtt.x.address=127.0.0.1:2"},
			check: func(c *Config) any { return c.Listeners.MQTT["x"].Limits }, want: mqtt.DefaultLimits()},
		{name: "the first listener stays", set: []string{"listeners.mqtt.x.address=127.0.0.1:2"},
			check: func(c *Config) any { return c.Listeners.MQTT["tcp"] }, want: defaultMQTT()},
		{name: "an empty address", set: []string{"listeners.mqtt.tcp.address="},
			check: func(c *Config) any { return c.Listeners.MQTT["tcp"].Address }, want: ""},
		{name: "the name of the file", env: []string{"TRIBUTARY_CONFIG=x"}, check: func(c *Config) any { return c.Log.Level }, want: "warn"},
		{name: "a setting that is called like a service link", env: []string{"TRIBUTARY_PLUGINS__P__PATH=x",
			"TRIBUTARY_PLUGINS__P__SETTINGS__SERVICE_PORT=80"}, check: func(c *Config) any { return c.Plugins["p"].Settings["service_port"] },
			want: "80"},
		{name: "other programs", env: []string{"PATH=/bin", "TRIBUTARYX=1"}, check: func(c *Config) any { return c.Log.Level }, want: "warn"},

		{name: "unknown variable", env: []string{"TRIBUTARY_LOG__LEVL=x"},
			problem: "TRIBUTARY_LOG__LEVL: log.levl is unknown; did you mean TRIBUTARY_LOG__LEVEL?"},
		{name: "single underscores", env: []string{"TRIBUTARY_LISTENERS_MQTT_TCP_ADDRESS=x"},
			problem: "TRIBUTARY_LISTENERS_MQTT_TCP_ADDRESS: listeners_mqtt_tcp_address is unknown; did you mean " +
				"TRIBUTARY_LISTENERS__MQTT__TCP__ADDRESS?"},
		{name: "nothing like it", env: []string{"TRIBUTARY_X=1"},
			problem: "TRIBUTARY_X: x is unknown; two underscores stand for each dot of a key, as in TRIBUTARY_ADMIN__ADDRESS"},
		{name: "no port of a service link", env: []string{"TRIBUTARY_ADMIN__PORT=8081"},
			problem: "TRIBUTARY_ADMIN__PORT: admin.port is unknown; did you mean TRIBUTARY_ADMIN__PPROF?"},
		{name: "no host of a service link", env: []string{"TRIBUTARY_SERVICE_HOST=web"},
			problem: "TRIBUTARY_SERVICE_HOST: service_host is unknown; two underscores stand for each dot of a key, as in TRIBUTARY_ADMIN__ADDRESS"},
		{name: "list in the environment", env: []string{"TRIBUTARY_ROUTES__0__PLUGIN=x"},
			problem: "TRIBUTARY_ROUTES__0__PLUGIN: routes is a list of tables, which only the file can hold"},
		{name: "value for a table", set: []string{"log=x"}, problem: "--set log: log is a table, which takes no value"},
		{name: "option without a value", set: []string{"log.level"},
			problem: "--set log.level: give a key and a value, such as --set listeners.mqtt.tcp.address=127.0.0.1:1884"},
		{name: "option without a key", set: []string{"=x"},
			problem: "--set =x: give a key and a value, such as --set listeners.mqtt.tcp.address=127.0.0.1:1884"},
		{name: "key below a value", set: []string{"log.level.x=1"}, problem: "--set log.level.x: log.level.x is unknown"},
		{name: "unknown option", set: []string{"store.dri=x"}, problem: "--set store.dri: store.dri is unknown; did you mean store.dir?"},
		{name: "no duration", set: []string{"router.retry_delay=5"},
			problem: `--set router.retry_delay: router.retry_delay is "5"; it must be a duration, such as "10s", "5m" or "7d"`},
		{name: "no boolean", set: []string{"admin.pprof=yes"}, problem: `--set admin.pprof: admin.pprof is "yes"; it must be true or false`},
		{name: "no number", set: []string{"router.queue=many"}, problem: `--set router.queue: router.queue is "many"; it must be a whole number`},
		{name: "size for a count", set: []string{"router.queue=1KiB"},
			problem: `--set router.queue: router.queue is "1KiB"; it must be a whole number`},
		{name: "no size", set: []string{"store.cache_bytes=1XB"},
			problem: `--set store.cache_bytes: store.cache_bytes is "1XB"; it must be a number of bytes with B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, such as "64KiB"`},
		{name: "size above all bounds", set: []string{"store.cache_bytes=9999999999TiB"},
			problem: `--set store.cache_bytes: store.cache_bytes is "9999999999TiB"; it must be a number of bytes with B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, such as "64KiB"`},
		{name: "broken list", set: []string{"plugins.p.path=x", "plugins.p.grant.emit=[1]"},
			problem: `--set plugins.p.grant.emit: plugins.p.grant.emit is a list; it must be a list of texts, such as ["a", "b"]`},
		{name: "key of a listener", set: []string{"listeners.mqtt.tcp.adress=x"},
			problem: "--set listeners.mqtt.tcp.adress: listeners.mqtt.tcp.adress is unknown; did you mean listeners.mqtt.tcp.address?"},
		{name: "listener without a name", set: []string{"listeners.mqtt.address=x"},
			problem: "--set listeners.mqtt.address: listeners.mqtt.address is a table, which takes no value"},
		{name: "two listeners at one address", set: []string{"listeners.mqtt.other.max_connections=5"},
			problem: `--set listeners.mqtt.other.max_connections: listeners.mqtt.tcp.address is "127.0.0.1:1883", which listeners.mqtt.other.address is, too`},
		{name: "port above all", set: []string{"listeners.mqtt.tcp.address=:65536"},
			problem: `--set listeners.mqtt.tcp.address: listeners.mqtt.tcp.address is ":65536"; the port must be at most 65535`},
		{name: "admin port above all", set: []string{"admin.address=:65536"},
			problem: `--set admin.address: admin.address is ":65536"; the port must be at most 65535`},
		{name: "impossible value", env: []string{"TRIBUTARY_LOG__LEVEL=loud"},
			problem: `TRIBUTARY_LOG__LEVEL: log.level is "loud"; use debug, info, warn or error`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := load(tt.env, tt.set)
			if tt.problem != "" {
				if err == nil || err.Error() != tt.problem {
					t.Errorf("got  %v\nwant %s", err, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, tt.check(cfg)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestLoadWithoutAnything(t *testing.T) {
	cfg, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), *cfg); d != "" {
		t.Errorf("(-default +got):\n%s", d)
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load(Sources{File: "nope.toml"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nope.toml") {
		t.Errorf("got %v", err)
	}
}

func TestRoutesReachTheRouter(t *testing.T) {
	cfg, err := Load(Sources{File: reference})
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Router.Routes) != 1 || cfg.Router.Routes[0].Plugin != "drogue" {
		t.Errorf("routes: %+v", cfg.Router.Routes)
	}
}

// A field without a tag would be a setting that nobody can set.
func TestEveryFieldHasAKey(t *testing.T) {
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		switch typ.Kind() {
		case reflect.Map, reflect.Slice:
			walk(typ.Elem(), path+"[]")
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				tag, ok := f.Tag.Lookup("koanf")
				if !ok || !regexp.MustCompile(`^([a-z][a-z0-9_]*|,squash|-)$`).MatchString(tag) {
					t.Errorf("%s.%s has the koanf tag %q", path, f.Name, tag)
				}
				if strings.Contains(tag, "__") {
					t.Errorf("%s.%s: __ in the key %s cannot be told from a dot in a variable", path, f.Name, tag)
				}
				walk(f.Type, path+"."+f.Name)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "Config")
}

func TestLogger(t *testing.T) {
	for _, tt := range []struct {
		log  Log
		want string
	}{
		{Log{"warn", "text"}, `level=WARN msg=w`},
		{Log{"info", "json"}, `"msg":"w"`},
	} {
		var out bytes.Buffer
		log := tt.log.Logger(&out)
		log.Debug("d")
		log.Warn("w")
		if !strings.Contains(out.String(), tt.want) || strings.Contains(out.String(), `msg=d`) {
			t.Errorf("%+v: %s", tt.log, out.String())
		}
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"address", "linger", "max_in_flight", "queue_bytes"}
	for word, want := range map[string]string{
		"adress": "address", "addres": "address", "lissten": "", "max_inflight": "max_in_flight",
		"queue_byte": "queue_bytes", "lniger": "linger", "x": "", "": "",
	} {
		if got := nearest(word, keys); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestSplitKey(t *testing.T) {
	for _, tt := range []struct {
		in    string
		parts []string
		rest  string
	}{
		{"a.b.c = 1", []string{"a", "b", "c"}, "= 1"},
		{`a."b.c" . 'd"e'=1`, []string{"a", "b.c", `d"e`}, "=1"},
		{`"a\"b"]`, []string{`a"b`}, "]"},
		{"routes[0].topic: x", []string{"routes[0]", "topic"}, ": x"},
		{"a..b", nil, "a..b"},
		{`"open`, nil, `"open`},
		{"= 1", nil, "= 1"},
		{"", nil, ""},
	} {
		parts, rest := splitKey(tt.in)
		if !slices.Equal(parts, tt.parts) || rest != tt.rest {
			t.Errorf("splitKey(%q) = %q, %q", tt.in, parts, rest)
		}
	}
}
