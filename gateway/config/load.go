package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"

	"tributary.io/gateway/auth"
	"tributary.io/gateway/registry"
)

// Sources says where settings come from, the later over the earlier.
type Sources struct {
	File string   // a TOML file; empty: none
	Env  []string // "NAME=value"; see os.Environ
	Set  []string // "key=value" of the command line, the last one of a key wins
}

// Problem is one thing that is wrong with the settings.
type Problem struct {
	// Origin is where it stands: a file with the line, a variable or an option;
	// empty for a default.
	Origin  string
	Message string // begins with the key
}

func (p *Problem) Error() string {
	if p.Origin == "" {
		return p.Message
	}
	return p.Origin + ": " + p.Message
}

// Load reads, merges and checks the settings. An error wraps one *Problem for
// everything that is wrong, a line each, in errors.Join's way.
//
// A variable is named TRIBUTARY_ and the key in capitals with two underscores
// for each dot: TRIBUTARY_ADMIN__ADDRESS. Values of variables and
// options are text: true, 5, 64KiB, 10s, a,b.
func Load(s Sources) (*Config, error) {
	l := newLoader()
	if s.File != "" {
		l.file(s.File)
	}
	l.environment(s.Env)
	for _, option := range s.Set {
		l.option(option)
	}
	return l.finish()
}

// delimiter separates keys inside koanf; no name contains it.
const delimiter = "\x00"

// loader gathers the layers of the configuration.
type loader struct {
	schema   *node
	user     *koanf.Koanf      // what the sources say, merged
	origin   map[string]string // where the winning value of a path stands
	links    []string          // variables that are Kubernetes's
	problems []error
}

func newLoader() *loader {
	return &loader{schema: schema(), origin: map[string]string{}, user: koanf.New(delimiter)}
}

// finish makes a configuration of what was gathered, and checks it.
func (l *loader) finish() (*Config, error) {
	cfg, err := l.decode()
	if err != nil {
		l.problems = append(l.problems, err)
	} else {
		for _, f := range cfg.validate() {
			l.locate(f)
		}
	}
	if len(l.problems) > 0 {
		return nil, errors.Join(l.problems...)
	}
	return cfg, nil
}

func (l *loader) problem(origin, format string, args ...any) {
	l.problems = append(l.problems, &Problem{origin, fmt.Sprintf(format, args...)})
}

// layer is one source: a file, a variable or an option.
type layer struct {
	*loader
	text   bool                     // it knows only text
	origin func(path string) string // where a path stands
}

func (l *loader) file(name string) {
	content, err := os.ReadFile(name)
	if err != nil {
		l.problems = append(l.problems, fmt.Errorf("reading the configuration: %w", err))
		return
	}
	l.parse(name, content)
}

func (l *loader) parse(name string, content []byte) {
	m, err := parseTOML(content)
	var deep *depthError
	if errors.As(err, &deep) {
		l.problem(fmt.Sprintf("%s:%d", name, deep.line), "%v; no setting is so deep", deep)
		return
	}
	if err != nil {
		where, remedy := placeTOML(content, err)
		l.problem(name+where, "this is no TOML: %s%s", strings.TrimPrefix(err.Error(), "toml: "), remedy)
		return
	}
	at := lines(content)
	l.load(m, layer{loader: l, origin: func(path string) string {
		for p := path; p != ""; p = parent(p) {
			if line := at[p]; line > 0 {
				return fmt.Sprintf("%s:%d", name, line)
			}
		}
		return name
	}})
}

// parent returns the path above a path, which is always shorter; the parent of
// routes[0] is routes.
func parent(path string) string {
	end, quoted := 0, false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case quoted && c == '\\':
			i++ // a quotation mark behind it ends nothing
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '.' || c == '['):
			end = i
		}
	}
	return path[:end]
}

// envPrefix begins every variable that is a setting. main reads the others: which
// file has the settings, and how the admin API's client finds and convinces a gateway.
const envPrefix = "TRIBUTARY_"

var ofMain = []string{"TRIBUTARY_CONFIG", "TRIBUTARY_URL", "TRIBUTARY_TOKEN", "TRIBUTARY_TOKEN_FILE"}

func (l *loader) environment(env []string) {
	env = slices.Clone(env)
	slices.Sort(env)
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		key, ok := strings.CutPrefix(name, envPrefix)
		if !ok || slices.Contains(ofMain, name) {
			continue
		}
		parts := strings.Split(strings.ToLower(key), "__")
		if serviceLink(name, value) && l.schema.find(joinAll("", parts)) == nil {
			l.links = append(l.links, name)
			continue
		}
		l.text(name, parts, value)
	}
}

func (l *loader) option(option string) {
	parts, rest := splitKey(option)
	value, ok := strings.CutPrefix(rest, "=")
	if parts == nil || !ok {
		l.problem("--set "+option, "give a key and a value, such as --set listeners.mqtt.tcp.address=127.0.0.1:1884")
		return
	}
	l.text("--set "+joinAll("", parts), parts, value)
}

// text loads one value of a variable or an option.
func (l *loader) text(origin string, parts []string, value string) {
	at := l.schema
	for i, part := range parts {
		if at.kind == list {
			l.problem(origin, "%s is a list of tables, which only the file can hold", joinAll("", parts[:i]))
			return
		}
		next := at.child(part)
		if next == nil {
			l.problem(origin, "%s is unknown%s", joinAll("", parts), l.suggestText(origin, parts, at, i))
			return
		}
		at = next
	}
	if at.kind != leaf {
		l.problem(origin, "%s is a table, which takes no value", joinAll("", parts))
		return
	}
	var m any = value
	for _, part := range slices.Backward(parts) {
		m = map[string]any{part: m}
	}
	l.load(m.(map[string]any), layer{loader: l, text: true, origin: func(string) string { return origin }})
}

// suggestText suggests a key for a variable or an option whose part i is unknown.
func (l *loader) suggestText(origin string, parts []string, at *node, i int) string {
	if !strings.HasPrefix(origin, envPrefix) {
		return at.suggest(l.schema, joinAll("", parts[:i]), parts[i])
	}
	var names []string
	l.schema.leaves("", func(path string, _ *node) {
		path = strings.ReplaceAll(path, "listeners.mqtt.*", "listeners.mqtt.tcp") // the usual one
		names = append(names, envPrefix+strings.ToUpper(strings.ReplaceAll(path, ".", "__")))
	})
	for _, name := range names { // one underscore in place of two is the likeliest mistake
		if strings.ReplaceAll(name, "__", "_") == strings.ReplaceAll(origin, "__", "_") {
			return "; did you mean " + name + "?"
		}
	}
	if near := nearest(origin, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return "; two underscores stand for each dot of a key, as in TRIBUTARY_ADMIN__ADDRESS"
}

// load checks a source against the schema and lays what is sound over the rest.
func (l *loader) load(m map[string]any, from layer) {
	sound := from.table(l.schema, "", m)
	if err := l.user.Load(confmap.Provider(sound, ""), nil); err != nil {
		l.problems = append(l.problems, fmt.Errorf("merging the configuration: %w", err))
	}
}

// table checks the keys of a table and converts their values.
func (from layer) table(n *node, path string, m map[string]any) map[string]any {
	sound := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		v, at := m[key], join(path, key)
		child := n.child(key)
		if child == nil {
			from.problem(from.origin(at), "%s is unknown%s", at, n.suggest(from.schema, path, key))
			continue
		}
		if value, ok := from.value(child, at, v); ok {
			sound[key] = value
			if child.kind == leaf || from.loader.origin[at] == "" {
				from.loader.origin[at] = from.origin(at)
			}
		}
	}
	return sound
}

func (from layer) value(n *node, at string, v any) (any, bool) {
	switch n.kind {
	case leaf:
		value, err := n.convert(at, v, from.text)
		if err != nil {
			from.problem(from.origin(at), "%s %v", at, err)
		}
		return value, err == nil
	case list:
		items, ok := v.([]any)
		var sound []any
		for i, item := range items {
			at := fmt.Sprintf("%s[%d]", at, i)
			m, isTable := item.(map[string]any)
			ok = ok && isTable
			from.loader.origin[at] = from.origin(at)
			sound = append(sound, from.table(n.elem, at, m))
		}
		if !ok {
			from.problem(from.origin(at), "%s is %s; it must be a list of tables: [[%s]]", at, show(v), at)
		}
		return sound, ok
	}
	m, ok := v.(map[string]any)
	if !ok {
		from.problem(from.origin(at), "%s is %s; it must be a table: [%s]", at, show(v), at)
		return nil, false
	}
	return from.table(n, at, m), true
}

// decode lays the user's settings over the defaults, also over those of each
// application and device that the user named.
func (l *loader) decode() (*Config, error) {
	k := koanf.New(delimiter)
	for _, m := range []map[string]any{toMap(reflect.ValueOf(Default())), elementDefaults(l.user.Raw()), l.user.Raw()} {
		if err := k.Load(confmap.Provider(m, ""), nil); err != nil {
			return nil, fmt.Errorf("merging the configuration: %w", err)
		}
	}
	cfg := &Config{}
	if err := k.Unmarshal("", cfg); err != nil {
		return nil, fmt.Errorf("reading the merged configuration: %w", err)
	}
	cfg.Router.Routes, cfg.ServiceLinks = cfg.Routes, l.links
	return cfg, nil
}

// elementDefaults returns the defaults of everything that the user named.
func elementDefaults(user map[string]any) map[string]any {
	defaults := map[string]any{}
	each(user, "applications", defaults, func(app, into map[string]any) {
		maps.Copy(into, toMap(reflect.ValueOf(registry.DefaultApplication())))
		each(app, "devices", into, func(_, into map[string]any) {
			maps.Copy(into, toMap(reflect.ValueOf(registry.DefaultDevice())))
		})
	})
	listeners, _ := user["listeners"].(map[string]any)
	ways := map[string]any{}
	each(listeners, "mqtt", ways, func(_, into map[string]any) { maps.Copy(into, toMap(reflect.ValueOf(defaultMQTT()))) })
	each(listeners, "http", ways, func(_, into map[string]any) { maps.Copy(into, toMap(reflect.ValueOf(defaultHTTP()))) })
	defaults["listeners"] = ways
	providers, _ := user["auth"].(map[string]any)
	into := map[string]any{}
	for kind, standard := range map[string]any{
		"oidc": auth.DefaultOIDC(), "certificate": auth.DefaultCertificate(), "http": auth.DefaultHTTP(), "plugin": auth.DefaultPlugin(),
	} {
		each(providers, kind, into, func(_, into map[string]any) { maps.Copy(into, toMap(reflect.ValueOf(standard))) })
	}
	defaults["auth"] = into
	return defaults
}

// each calls fn for every named table under a key of m, with a table of the
// same place in into.
func each(m map[string]any, key string, into map[string]any, fn func(m, into map[string]any)) {
	names, _ := m[key].(map[string]any)
	for name, v := range names {
		entry, _ := v.(map[string]any)
		if into[key] == nil {
			into[key] = map[string]any{}
		}
		inner := map[string]any{}
		into[key].(map[string]any)[name] = inner
		fn(entry, inner)
	}
}

// locate turns what a package found wrong into a problem that names the whole
// key and where it stands. Messages begin with a key: whole, or within the section.
func (l *loader) locate(f finding) {
	message, key := f.err.Error(), f.section
	_, rest := splitKey(message)
	first := strings.TrimSpace(message[:len(message)-len(rest)])
	switch within := strings.TrimPrefix(f.section+"."+first, "."); {
	case first != "" && l.schema.find(within) != nil: // first, as a listener's auth is not [auth]
		key = within
	case first != "" && l.schema.find(first) != nil:
		key = first
	default:
		rest = ": " + message
	}
	if !strings.HasPrefix(rest, ":") {
		rest = " " + rest
	}
	origin := ""
	for p := key; p != "" && origin == ""; p = parent(p) {
		origin = l.origin[p]
	}
	l.problem(origin, "%s%s", key, rest)
}
