package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tributary.io/gateway/config"
)

// The documentation is run as its readers would run it. Each page gets a copy of
// the repository and a gateway started by "make run"; its ```sh blocks are run one
// after the other, a ```text, ```console or ```json block that follows on one is
// what it must print, a ```toml block must be settings or a manifest, any other
// ```json block must be JSON. A comment before a block says what cannot be seen:
//
//	<!-- test: background <name> -->      it does not end by itself
//	<!-- test: output of <name> -->       this is what that one prints; "or <name>" may follow
//	<!-- test: settings -->               goes into gateway.toml, and the gateway is started anew
//	<!-- test: fails -->                  its exit status is not 0
//	<!-- test: skip <reason> -->          it is not run
//
// Identifiers, times, digests and sizes may differ from what is printed, and …
// stands for any text, on a line of its own for any lines.
func TestDocuments(t *testing.T) {
	if artefacts.problem != nil {
		t.Fatal(artefacts.problem)
	}
	const root = "../.."
	var pages []string
	for _, pattern := range []string{"README.md", "docs/*.md", "plugins/*/README.md", "sdk-plugin/*.md", "examples/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no page: %v", pattern, err)
		}
		pages = append(pages, found...)
	}
	for _, file := range pages {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(root, file)
		t.Run(name, func(t *testing.T) {
			checkLinks(t, file, string(text))
			blocks, err := parseBlocks(string(text))
			if err != nil {
				t.Fatal(err)
			}
			freePorts(t, blocks)
			(&page{t: t, name: name, text: string(text), root: root, terminals: map[string]*terminal{}}).run(blocks)
		})
	}
}

// block is a fenced block of a page, and what a comment before it says.
type block struct {
	line             int
	language, text   string
	verb, name, note string
}

var (
	fence   = regexp.MustCompile("^( *)```([a-z]*)$")
	comment = regexp.MustCompile(`^ *<!-- test: (?:(settings|fails)|(background|output of) ([a-z]+(?: or [a-z]+)*)|(skip) (.+)) -->$`)
)

func parseBlocks(text string) (blocks []block, err error) {
	var said, open *block
	indent := ""
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			open, indent = &block{}, m[1]
			if said != nil {
				open = said
			}
			open.line, open.language, said = i+1, m[2], nil
		case open == nil && strings.Contains(line, "<!-- test:"):
			c := comment.FindStringSubmatch(line)
			if c == nil || said != nil {
				return nil, fmt.Errorf("line %d: %s is not understood", i+1, line)
			}
			said = &block{verb: c[1] + c[2] + c[4], name: c[3], note: c[5]}
		case open != nil && m != nil && m[2] == "":
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case said != nil && strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("line %d: a comment for the test stands before no block", i+1)
		}
	}
	if open != nil || said != nil {
		return nil, fmt.Errorf("the last block does not end, or the last comment has none")
	}
	return blocks, nil
}

// freePorts puts ports that are free in the place of those of a page's own, 18000 to
// 18999, in what it runs and in what it shows.
func freePorts(t *testing.T, blocks []block) {
	free, own := map[string]string{}, regexp.MustCompile(`\b18\d{3}\b`)
	for _, b := range blocks {
		for _, port := range own.FindAllString(b.text, -1) {
			if free[port] == "" {
				ln := listenLow(t)
				defer ln.Close() // so that no two are the same
				_, free[port], _ = net.SplitHostPort(ln.Addr().String())
			}
		}
	}
	for i := range blocks {
		blocks[i].text = own.ReplaceAllStringFunc(blocks[i].text, func(port string) string { return free[port] })
	}
}

// listenLow listens on a port below those that the system gives to whoever names
// none, so that after the closing nobody gets it by chance.
func listenLow(t testing.TB) net.Listener {
	t.Helper()
	for range 100 {
		if ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000))); err == nil {
			return ln
		}
	}
	t.Fatal("of a hundred ports none was free")
	return nil
}

// page is a page that is being run.
type page struct {
	t                *testing.T
	name, text, root string
	dir              string // the copy of the repository
	terminals        map[string]*terminal
	gateway          *terminal
	start            string // what started it
}

func (p *page) run(blocks []block) {
	var last *terminal // of the block before, when it was run
	for i := range blocks {
		b := &blocks[i]
		if b.verb == "skip" {
			p.t.Logf("%s:%d is not run: %s", p.name, b.line, b.note)
			last = nil
			continue
		}
		switch b.language {
		case "sh":
			p.ready(b)
			last = p.shell(b)
			continue
		case "toml":
			p.settings(b)
		case "text", "console", "json":
			p.output(b, p.shown(b, last))
		case "go":
			p.source(b)
		}
		last = nil
	}
	if p.gateway != nil {
		p.metrics()
	}
	for _, s := range p.terminals {
		s.end(syscall.SIGKILL)
	}
	p.stop(&block{})
}

// shown are the terminals of which one prints what a block shows.
func (p *page) shown(b *block, last *terminal) (list []*terminal) {
	if b.verb != "output of" {
		if last != nil {
			list = append(list, last)
		}
		return list
	}
	for _, name := range strings.Split(b.name, " or ") {
		s := p.terminals[name]
		if s == nil {
			p.fail(b, "no block is called %s", name)
		}
		list = append(list, s)
	}
	return list
}

func (p *page) fail(b *block, format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s:%d: %s", p.name, b.line, fmt.Sprintf(format, args...))
}

// ready makes the copy and starts the gateway, where the block does not do that.
func (p *page) ready(b *block) {
	for _, client := range []string{"mosquitto_sub", "mosquitto_pub", "mosquitto_rr", "curl", "openssl", "stdbuf", "make"} {
		if strings.Contains(b.text, client) || client == "stdbuf" && b.verb == "background" || client == "make" {
			program(p.t, client)
		}
	}
	if p.dir == "" {
		p.copy()
	}
	if p.gateway == nil && !strings.HasPrefix(b.text, "make run") {
		p.serve(&block{line: b.line, text: "make run\n", verb: "background"})
	}
}

// copy makes a copy of what a page needs of the repository, with the gateway that
// is built already.
func (p *page) copy() {
	p.dir = filepath.Join(p.t.TempDir(), "tributary")
	for _, name := range []string{"Makefile", "gateway.toml", "go.mod", "go.sum", "plugins", "sdk-plugin", "examples", "schemas"} {
		from, to := filepath.Join(p.root, name), filepath.Join(p.dir, name)
		info, err := os.Stat(from)
		if err == nil && info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else if err == nil {
			var content []byte
			if content, err = os.ReadFile(from); err == nil {
				err = os.MkdirAll(p.dir, 0o755)
			}
			if err == nil {
				err = os.WriteFile(to, content, 0o644)
			}
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	build := "#!/bin/sh\n[ \"$CGO_ENABLED\" = 0 ] || { echo 'it would need the C library'; exit 1; }\nmkdir -p bin && ln -sf " +
		artefacts.binary + " bin/tributary\n"
	if err := os.WriteFile(p.goTool(), []byte(build), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// goTool is what make runs to build the gateway.
func (p *page) goTool() string { return filepath.Join(filepath.Dir(p.dir), "go") }

func (p *page) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TRIBUTARY_") || strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	if text, err := os.ReadFile(filepath.Join(p.dir, "gateway.toml")); err == nil && bytes.Contains(text, []byte("\n[listeners.http.web]\n")) {
		env = append(env, "TRIBUTARY_LISTENERS__HTTP__WEB__ADDRESS=127.0.0.1:0")
	}
	if p.gateway != nil && p.gateway.address["admin"] != "" {
		env = append(env, "TRIBUTARY_URL=http://"+p.gateway.address["admin"])
	}
	return append(env, "GO="+p.goTool(), "PATH="+filepath.Join(p.dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"),
		"TRIBUTARY_LISTENERS__MQTT__TCP__ADDRESS=127.0.0.1:0", "TRIBUTARY_ADMIN__ADDRESS=127.0.0.1:0", "TRIBUTARY_WASM__CACHE_DIR="+artefacts.cache)
}

// serve starts the gateway with a block, and waits until it is ready.
func (p *page) serve(b *block) {
	p.gateway, p.start = p.spawn(b, b.text), b.text
	p.wait(b, p.gateway, "the gateway is ready", func(out string) bool { return strings.Contains(out, `msg="the gateway is ready"`) })
	for _, m := range regexp.MustCompile(`msg=listening listener=([\w.]+) address=(\S+)`).FindAllStringSubmatch(p.gateway.String(), -1) {
		p.gateway.address[m[1]] = m[2]
	}
}

// stop ends the gateway as Ctrl-C does.
func (p *page) stop(b *block) {
	if p.gateway == nil {
		return
	}
	p.gateway.end(syscall.SIGINT)
	for line := range strings.Lines(p.gateway.String()) {
		if crashes.MatchString(line) {
			p.fail(b, "the gateway crashed:\n%s", p.gateway)
		}
	}
	p.gateway = nil
}

// shell runs a block, to its end or in the background.
func (p *page) shell(b *block) *terminal {
	if strings.HasPrefix(b.text, "make run") {
		p.serve(b)
		return p.gateway
	}
	script := p.adapt(b.text)
	if b.verb == "background" {
		// Told to, mosquitto_sub says when it is subscribed; its output is kept clean of that.
		script = strings.ReplaceAll(script, "mosquitto_sub ", "stdbuf -oL mosquitto_sub -d ")
		s := p.spawn(b, script)
		p.terminals[b.name] = s
		p.wait(b, s, "it is subscribed", func(string) bool {
			return strings.Count(s.raw(), "Subscribed (mid") >= strings.Count(script, "mosquitto_sub ")
		})
		return s
	}
	s := p.spawn(b, script)
	select {
	case <-s.ended:
	case <-p.t.Context().Done():
	case <-timeout():
		p.fail(b, "it does not end:\n%s", s)
	}
	if s.failed != (b.verb == "fails") {
		p.fail(b, "exit status: %v\n%s", s.cmd.ProcessState, s)
	}
	return s
}

// adapt puts the addresses of this gateway into a script. The host stays what the
// page or the program says, as a certificate has to name it.
func (p *page) adapt(script string) string {
	_, port, err := net.SplitHostPort(p.gateway.address["mqtt.tcp"])
	if err != nil {
		p.t.Fatal(err)
	}
	script = regexp.MustCompile(`\bmosquitto_(sub|pub|rr) `).ReplaceAllString(script, "${0}-p "+port+" ")
	script = regexp.MustCompile(`\btributary (tail|bench)\b`).ReplaceAllString(script, "${0} --address "+p.gateway.address["mqtt.tcp"])
	return strings.NewReplacer("127.0.0.1:8080", p.gateway.address["admin"], "localhost:8080", p.gateway.address["admin"],
		"127.0.0.1:8090", p.gateway.address["http.web"], "mqtt://127.0.0.1:1883", "mqtt://"+p.gateway.address["mqtt.tcp"]).Replace(script)
}

// settings checks a block of TOML; where it says so it is also put into force.
func (p *page) settings(b *block) {
	if _, err := config.ParseManifest("plugin.toml", []byte(b.text)); err == nil {
		return
	}
	if p.dir == "" {
		p.copy()
	}
	file := filepath.Join(p.dir, "gateway.toml")
	current, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	before, after, _ := bytes.Cut(current, []byte("\n[[routes]]\n")) // the route that takes everything
	whole := fmt.Sprintf("%s\n%s\n[[routes]]\n%s", before, b.text, after)
	try := filepath.Join(p.dir, "try.toml")
	load := func(text string) error {
		if err := os.WriteFile(try, []byte(text), 0o644); err != nil {
			return err
		}
		_, err := config.Load(config.Sources{File: try})
		return err
	}
	err = load(whole)
	if b.verb != "settings" {
		// A fragment may also change a table that gateway.toml has.
		if err != nil && load(b.text) != nil {
			p.fail(b, "%v", err)
		}
		return
	}
	if err != nil {
		p.fail(b, "%v", err)
	}
	if err := os.Rename(try, file); err != nil {
		p.t.Fatal(err)
	}
	for name, s := range p.terminals {
		s.end(syscall.SIGKILL)
		delete(p.terminals, name)
	}
	if p.gateway != nil {
		p.stop(b)
		p.serve(&block{line: b.line, text: p.start, verb: "background"})
	}
}

// spawn starts a script in the copy; nothing of it outlives the test.
func (p *page) spawn(b *block, script string) *terminal {
	s := &terminal{ended: make(chan struct{}), address: map[string]string{}}
	s.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), "sh", "-euc", script)
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = p.dir, p.env(), s, s
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		p.fail(b, "%v", err)
	}
	go func() {
		s.failed = s.cmd.Wait() != nil
		close(s.ended)
	}()
	p.t.Cleanup(func() { s.end(syscall.SIGKILL) })
	return s
}

// wait waits until a background block has printed something.
func (p *page) wait(b *block, s *terminal, what string, ok func(out string) bool) {
	eventually(p.t, fmt.Sprintf("%s:%d: %s", p.name, b.line, what), func() bool {
		ended, is := s.over(), ok(s.String())
		if ended && !is {
			p.fail(b, "it ended before this: %s\n%s", what, s)
		}
		return is
	})
}
