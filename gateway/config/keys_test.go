package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Names that need quotes and escapes are names: what is wrong with one is said, with
// its line.
func TestNamesWithEscapes(t *testing.T) {
	for key, want := range map[string]string{
		`"a\tb"`:         `"a\tb": a device's name is 1 to 128 bytes of text`,
		`"a\u0009b"`:     `"a\tb": a device's name`,
		`"a\"b\\\u0007"`: `"a\"b\\\a": a device's name`,
		`'a\tb/'`:        `"a\\tb/": a device's name`,
		`"."`:            `".": a device's name`,
		`"a[0]/"`:        `"a[0]/": a device's name`,
		`"é/"`:           `"é/": a device's name`,
		`""`:             `"": a device's name`,
	} {
		file := write(t, []byte("# a line before\n[applications.demo.devices."+key+"]\n"))
		_, err := Load(Sources{File: file})
		if want = file + ":2: applications.demo.devices." + want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", key, err, want)
		}
	}
}

// The parser's stack grows with the levels of a file.
func TestDeepFiles(t *testing.T) {
	const n = 3_000_000
	for name, content := range map[string]string{
		"arrays":  "a = " + strings.Repeat("[", n),
		"tables":  "a = " + strings.Repeat("{a=", n),
		"both":    "a = " + strings.Repeat("[{a =", n),
		"header":  "[" + strings.Repeat("a.", n) + "a]",
		"key":     strings.Repeat("a . ", n) + "a = 1",
		"strings": "a = " + strings.Repeat("[\"]\\\"\", ']',\n#]\n '''\n]]''', ", n/10),
		"quoted":  strings.Repeat(`"a\"".'b'.`, n/10) + "a = 1",
	} {
		l := newLoader()
		l.parse("deep.toml", []byte(content))
		if _, err := l.finish(); err == nil || !strings.Contains(err.Error(), "no setting is so deep") || len(err.Error()) > 100 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	shallow := "# " + strings.Repeat("[", 1000) + "\nx = '" + strings.Repeat("[", 1000) + "'\ny = [" + strings.Repeat("[1.5, 2.5],", 1000) +
		"]\n" +
		"z = \"\"\"" + strings.Repeat("[{.\\\"\n", 1000) + "\"\"\"\nv = [\n" + strings.Repeat("1.5,\n", 1000) + "]\n"
	if _, err := parseTOML([]byte(shallow)); err != nil {
		t.Error(err)
	}
}

// FuzzKeys makes paths of any parts, takes them apart and goes up.
func FuzzKeys(f *testing.F) {
	f.Add("demo", "a\tb", "c")
	f.Add("", ".", "a[0]")
	f.Add("\\", "\"", "'\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		parts := []string{a, b, c}
		path := joinAll("", parts)
		if got, rest := splitKey(path); !slices.Equal(got, parts) || rest != "" {
			t.Errorf("%q is %s, which is taken apart as %q and %q", parts, path, got, rest)
		}
		for n := len(parts) - 1; n >= 0; n-- {
			if path = parent(path); path != joinAll("", parts[:n]) {
				t.Errorf("%d parts of %q are %s", n, parts, path)
			}
		}
	})
}

// FuzzLoad feeds files: whatever stands in them, Load answers with a
// configuration or with problems.
func FuzzLoad(f *testing.F) {
	content, err := os.ReadFile(reference)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(content))
	f.Add("[[routes]]\napplication = \"x\"\n[applications.\"a[0]\".devices.b]\ndisabled = 1\n")
	f.Add("a = \"\"\"\n[b]\n\"\"\"\nlog = 1979-05-27\n")
	f.Add("[applications.demo.devices.\"a\\tb\"]\n")
	f.Add("[applications.'a\"b'.devices.\"c.d\\\"[0]\"]\naliases = [\"\\u0000\"]\n")
	f.Add("\"\" = 1\n[\"\\\"]\n[x.\"\\U0010ffff\".y]\n")
	f.Add("a = " + strings.Repeat("[", 1000) + "\n")
	f.Fuzz(func(t *testing.T, content string) {
		l := newLoader()
		l.parse("fuzz.toml", []byte(content))
		cfg, err := l.finish()
		if (cfg == nil) == (err == nil) {
			t.Errorf("%v, %v", cfg, err)
		}
	})
}
