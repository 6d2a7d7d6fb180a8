package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tributary runs a command line in this process.
func tributary(t *testing.T, ctx context.Context, stdin string, env []string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	others := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TRIBUTARY_") })
	status = run(ctx, args, &terminal{in: strings.NewReader(stdin), out: &o, err: &e, env: append(others, env...)})
	return status, o.String(), e.String()
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCommandLines(t *testing.T) {
	bad := write(t, "bad.toml", "[log]\nlevel = 5\nlevl = \"info\"\n")
	fine := write(t, "fine.toml", "[applications.plant]\nmessaging = true\n[applications.garden]\nmessaging = true\n")
	silent := write(t, "silent.toml", "[applications.plant]\n")
	orphan := write(t, "orphan.toml", "[plugins.p]\npath = \"nowhere/p.wasm\"\n")
	stray := write(t, "stray.toml", "[applications.fleet]\nmessaging = true\n[plugins.p]\npath = \"plugin/testdata/wat/minimal.wasm\"\n"+
		"[[routes]]\napplication = \"fleets\"\nplugin = \"p\"\n[[routes]]\napplication = \"garden\"\nplugin = \"p\"\n")
	tests := []struct {
		line   string // words; ^ stands for a space
		env    []string
		stdin  string
		status int
		out    string // parts of the outputs, as regular expressions
		err    string
	}{
		{line: "", status: 2, err: `(?s)Usage: tributary <command>.*  run  .*  tail  .*  version  `},
		{line: "--help", out: `(?s)Usage: tributary <command>.*  run  .*  tail  .*  version  `},
		{line: "help", out: `Usage: tributary <command>`},
		{line: "help tail", out: `Usage: tributary tail <application> \[options\]`},
		{line: "help plugin build", out: `Usage: tributary plugin build <directory>`},
		{line: "serve", status: 2, err: `there is no command "serve"; the commands are run, check, .*\nTry: tributary --help\n`},
		{line: "plugin", status: 2, err: `^tributary plugin: it needs one of: build, test\nTry: tributary plugin --help\n$`},
		{line: "plugin bild .", status: 2, err: `^tributary plugin: it needs one of: build`},
		{line: "help device", out: `^Usage: tributary device <command> \[options\]\n\nCommands:\n  device create  `},
		{line: "run --confg x", status: 2, err: `tributary run: there is no option --confg\nTry: tributary run --help\n`},
		{line: "run --config", status: 2, err: `flag needs an argument: -config`},
		{line: "run now", status: 2, err: `an argument too many: "now"`},
		{line: "version", out: `^tributary \S+.* go1\.\d+.* \w+/\w+\n$`},
		{line: "version x", status: 2, err: `an argument too many`},

		{line: "check --config " + fine, out: `fine.toml is fine: 2 applications, 0 users, 0 plugins, 0 routes\n`},
		{line: "check --config " + silent, out: `is fine: 1 application`,
			err: `level=WARN msg="applications.plant has neither a route nor messaging, so what its devices publish goes into quarantine`},
		{line: "check", env: []string{"TRIBUTARY_CONFIG=" + fine}, out: `fine.toml is fine`},
		{line: "check --set log.format=json --config " + fine + " --set log.level=warn", out: `is fine`},
		{line: "check --config " + stray + " --data-dir " + t.TempDir(), out: `is fine: 1 application, .* 2 routes\n`,
			err: `^[^\n]* level=WARN msg="routes\[0\].application is \\"fleets\\", and no application of this name is there yet; did you mean \\"fleet\\"\?"\n$`},
		{line: "check --config " + bad, status: 1,
			err: `(?s)^tributary check: 2 problems with the settings:\n  \S+bad.toml:2: log.level is 5; .*\n  \S+bad.toml:3: log.levl is unknown; did you mean log.level\?\n$`},
		{line: "check --config " + fine, env: []string{"TRIBUTARY_LOG__LEVEL=loud"}, status: 1,
			err: `^tributary check: TRIBUTARY_LOG__LEVEL: log.level is "loud"`},
		{line: "check --config " + fine + " --listen nowhere", status: 1, err: `listeners.mqtt.tcp.address is "nowhere"`},
		{line: "check --config nope.toml", status: 1, err: `open nope.toml: .*; name the file with --config, or /dev/null for none`},
		{line: "run --config nope.toml", status: 1, err: `^tributary run: .*nope.toml`},
		{line: "check --config " + orphan, status: 1, err: `loading plugin "p" from nowhere/p.wasm: .*make plugins`},

		{line: "hash-password", stdin: "secret\nrest", out: `^\$argon2id\$v=19\$m=19456,t=2,p=1\$\S+\n$`},
		{line: "hash-password", stdin: "", status: 1, err: `a password has 1 to 1024 bytes, this one has 0`},
		{line: "hash-password secret", status: 2, err: `never from the command line`},

		{line: "tail", status: 2, err: `the application is missing`},
		{line: "tail a b", status: 2, err: `an argument too many: "b"`},
		{line: "tail a/b", status: 2, err: `"a/b" is no application's name`},
		{line: "tail a --json --pretty", status: 2, err: `exclude each other`},
		{line: "tail a --from yesterday", status: 2, err: `--from is "yesterday"; it must be first, last, next, an offset, or a time`},
		{line: "tail a --address 127.0.0.1:1", status: 1, err: `connecting to the gateway: .*; is it running`},
		{line: "tail a --username alice --password-file nope", status: 1, err: `reading the password: open nope`},

		{line: "bench --version 6", status: 2, err: `--version is "6"; it must be 3.1.1 or 5`},
		{line: "bench --qos 300", status: 2, err: `--qos is 300; it must be 0, 1 or 2`},
		{line: "bench --publishers 0", status: 2, err: `clients`},
		{line: "bench --payload @nope", status: 1, err: `reading the payload: open nope`},
		{line: "bench --address 127.0.0.1:1", status: 1, err: `127.0.0.1:1`},

		{line: "plugin build", status: 2, err: `the plugin's directory is missing`},
		{line: "plugin build testdata", status: 1, err: `a plugin needs a plugin.toml`},
		{line: "plugin build testdata/badmanifest -o " + t.TempDir() + "/x.wasm", status: 1,
			err: `testdata/badmanifest/plugin.toml:3: colour is unknown`},
		{line: "plugin build testdata/badsource -o " + t.TempDir() + "/x.wasm", status: 1,
			err: `(?s)compiling the Go package in testdata/badsource: .*undefined: nothing`},
		{line: "plugin build testdata/noplugin -o " + t.TempDir() + "/x.wasm", status: 1,
			err: `none that a gateway loads: it does not keep to plugin ABI 1: the export tributary_abi_1 is missing`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			status, out, errs := tributary(t, t.Context(), tt.stdin, tt.env, strings.Fields(tt.line)...)
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if !regexp.MustCompile(tt.out).MatchString(out) || tt.out == "" && out != "" {
				t.Errorf("output %q, want %s", out, tt.out)
			}
			if !regexp.MustCompile(tt.err).MatchString(errs) || tt.err == "" && errs != "" {
				t.Errorf("errors %q, want %s", errs, tt.err)
			}
		})
	}
}

// Every command explains itself with examples that work as they stand.
func TestHelp(t *testing.T) {
	for _, cmd := range commands() {
		status, out, errs := tributary(t, t.Context(), "", nil, append(strings.Fields(cmd.name), "--help")...)
		if status != 0 || errs != "" || !strings.HasPrefix(out, "Usage: tributary "+cmd.name) || !strings.Contains(out, "\nExamples:\n  ") {
			t.Errorf("%s --help: %d %q %q", cmd.name, status, out, errs)
		}
		if strings.Contains(out, "\t") {
			t.Errorf("%s --help has tabs", cmd.name)
		}
		for _, example := range regexp.MustCompile(`(?m)^  .*\btributary (.*)$`).FindAllStringSubmatch(cmd.help, -1) {
			line, _, _ := strings.Cut(example[1], " | ")
			line, _, _ = strings.Cut(line, " && ")
			chosen, rest, err := choose(strings.Fields(line))
			if err != nil || chosen == nil || chosen.name != cmd.name {
				t.Errorf("%s --help: the example %q is of another command: %v", cmd.name, line, err)
				continue
			}
			parse := *chosen
			parse.setup = func(fs *flag.FlagSet) func(context.Context, *terminal, []string) error {
				chosen.setup(fs)
				return func(_ context.Context, _ *terminal, args []string) error {
					if want := len(strings.Fields(cmd.args)); len(args) != want {
						t.Errorf("%s --help: the example %q has %d arguments, want %d", cmd.name, line, len(args), want)
					}
					return nil
				}
			}
			if err := parse.run(t.Context(), &terminal{out: io.Discard, err: io.Discard}, rest); err != nil {
				t.Errorf("%s --help: the example %q: %v", cmd.name, line, err)
			}
		}
	}
}

// The first word of commands of two words lists them.
func TestHelpOfGroups(t *testing.T) {
	groups := map[string][]string{}
	for _, cmd := range commands() {
		if words := strings.Fields(cmd.name); len(words) == 2 {
			groups[words[0]] = append(groups[words[0]], "  "+cmd.name+" ")
		}
	}
	for group, members := range groups {
		for _, option := range []string{"--help", "-h"} {
			status, out, errs := tributary(t, t.Context(), "", nil, group, option)
			if status != 0 || errs != "" || !strings.HasPrefix(out, "Usage: tributary "+group+" <command>") {
				t.Errorf("%s %s: %d %q %q", group, option, status, out, errs)
			}
			for _, member := range members {
				if !strings.Contains(out, member) {
					t.Errorf("%s %s does not list %q", group, option, member)
				}
			}
			if n := strings.Count(out, "\n  "); n != len(members) {
				t.Errorf("%s %s lists %d commands, want %d", group, option, n, len(members))
			}
		}
	}
}

func TestHashedPasswordIsAccepted(t *testing.T) {
	_, hash, _ := tributary(t, t.Context(), "secret\r\n", nil, "hash-password")
	file := write(t, "users.toml", "[users.alice]\npassword_hashes = [\""+strings.TrimSpace(hash)+"\"]\n")
	status, out, errs := tributary(t, t.Context(), "", nil, "check", "--config", file)
	if status != 0 || !strings.Contains(out, "1 user,") {
		t.Errorf("%d %s %s", status, out, errs)
	}
}

func TestInterruptedPassword(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readPassword(ctx, &terminal{in: r, err: io.Discard}, ""); err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
}
