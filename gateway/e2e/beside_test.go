package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkBeside measures the gateway beside mosquitto with one load generator,
// in turns, so that both see the same machine: each iteration is a round of all
// loads, and what is reported is the median of the rounds and of the ratios
// within a round. docs/performance.md says how to run it and what came out.
//
// TRIBUTARY_BENCH_SECONDS is the length of each load; the default only shows
// that everything works.
func BenchmarkBeside(b *testing.B) {
	mosquitto := startMosquitto(b)
	inC := buildInC(b)
	g := start(b, besideConfig()+inC)
	const payload = `{"state":{"reported":{"temperature":21.5,"targetTemperature":22,"humidity":48.2,"mode":"auto","online":true,"firmware":"1.4.2"}},"clientToken":"{stamp}","version":0}`
	loads := []struct {
		name    string
		address string
		args    []string
	}{
		{"mosquitto", mosquitto, nil},
		{"front", g.mqtt, []string{"--username", "@front"}},
		{"go-json", g.mqtt, []string{"--username", "@fleet"}},
		{"drogue", g.mqtt, []string{"--username", "@plain"}},
		{"c", g.mqtt, []string{"--username", "@native"}},
		{"mosquitto-w1", mosquitto, []string{"--window", "1"}},
		{"front-w1", g.mqtt, []string{"--username", "@front", "--window", "1"}},
		{"go-json-w1", g.mqtt, []string{"--username", "@fleet", "--window", "1"}},
		{"consumed", g.mqtt, []string{"--username", "@plain", "--subscribers", "2", "--consume", "$share/bench/app/plain"}},
	}
	results, ratios := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		round := map[string]float64{}
		for _, l := range loads {
			if l.name == "c" && inC == "" {
				continue
			}
			r := load(b, l.address, append(l.args, "--topic", "shadow", "--payload", payload)...)
			round[l.name] = r.AckRate
			if l.name == "consumed" {
				round[l.name] = r.ConsumeRate
			}
			results[l.name] = append(results[l.name], round[l.name])
		}
		for _, name := range []string{"front", "go-json", "c", "front-w1", "go-json-w1"} {
			beside := "mosquitto"
			if strings.HasSuffix(name, "-w1") {
				beside = "mosquitto-w1"
			}
			if round[name] > 0 {
				ratios[name] = append(ratios[name], round[name]/round[beside])
			}
		}
	}
	for name, v := range results {
		b.ReportMetric(median(v), name+"/s")
	}
	for name, v := range ratios {
		b.ReportMetric(median(v), name+"/mosquitto")
	}
	b.ReportMetric(0, "ns/op") // the length of a round says nothing
}

// BenchmarkIdle measures the memory of connections that do nothing.
func BenchmarkIdle(b *testing.B) {
	const connections = 5000
	var perConnection []float64
	for b.Loop() {
		g := start(b, besideConfig())
		load(b, g.mqtt, "--username", "@front") // warm
		before := resident(b, g.cmd.Process.Pid)
		idle := exec.Command(artefacts.binary, "bench", "--address", g.mqtt, "--username", "@front", "--publishers", "0",
			"--idle", strconv.Itoa(connections), "--duration", "1h")
		if err := idle.Start(); err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			if n, _ := g.metric("tributary_mqtt_connections"); n >= connections {
				break
			}
			if time.Now().After(deadline) {
				b.Fatal("the connections did not come about")
			}
		}
		time.Sleep(time.Second) // settles
		perConnection = append(perConnection, float64(resident(b, g.cmd.Process.Pid)-before)/connections)
		idle.Process.Kill()
		idle.Wait()
		g.stop()
	}
	b.ReportMetric(median(perConnection), "B/connection")
	b.ReportMetric(0, "ns/op")
}

// besideConfig has an application for each load: front has no route, fleet decodes
// JSON in a Go plugin, plain speaks Drogue's dialect.
func besideConfig() string {
	return `
[plugins.decoder]
path = "` + wasm("decoder") + `"
[plugins.decoder.grant]
emit = ["io.tributary.example.reading.v1"]
[plugins.drogue]
path = "` + wasm("drogue") + `"
[plugins.drogue.grant]
emit = ["io.drogue.event.v1", "io.drogue.connection.v1"]
publish = ["command/inbox/#"]
[[routes]]
application = "fleet"
type = "io.tributary.publish.v1"
plugin = "decoder"
[[routes]]
application = "plain"
type = "io.tributary.publish.v1"
plugin = "drogue"
[applications.front]
anonymous = true
messaging = true
[applications.fleet]
anonymous = true
[applications.plain]
anonymous = true
`
}

// buildInC compiles the plugin that ABI.md shows, which emits each payload as it
// is, and returns its settings; nothing where there is no clang.
func buildInC(b *testing.B) (settings string) {
	b.Helper()
	page, err := os.ReadFile("../../sdk-plugin/ABI.md")
	if err != nil {
		b.Fatal(err)
	}
	_, code, _ := strings.Cut(string(page), "```c\n")
	code, _, _ = strings.Cut(code, "```")
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bytes.c"), []byte(code), 0o600); err != nil {
		b.Fatal(err)
	}
	module := filepath.Join(dir, "bytes.wasm")
	if err := exec.Command("clang", "--target=wasm32", "-O2", "-mbulk-memory", "-nostdlib", "-Wl,--no-entry", "-o", module,
		filepath.Join(dir, "bytes.c")).Run(); err != nil {
		b.Logf("LEFT OUT: the plugin in C: clang: %v", err)
		return ""
	}
	return `
[plugins.bytes]
path = "` + module + `"
[plugins.bytes.grant]
emit = ["com.example.bytes.v1"]
[[routes]]
application = "native"
type = "io.tributary.publish.v1"
plugin = "bytes"
[applications.native]
anonymous = true
`
}

// loadReport is what is used of the report of "tributary bench --json".
type loadReport struct {
	AckRate     float64 `json:"ack_per_sec"`
	ConsumeRate float64 `json:"consume_per_sec"`
	AckLatency  struct {
		P99 time.Duration `json:"p99_ns"`
	} `json:"ack_latency"`
	Errors int `json:"errors"`
}

// load runs the load generator as a process of its own: 20 devices, 50 messages
// in flight, QoS 1, MQTT 3.1.1, since mosquitto grants only 20 in MQTT 5.
func load(b *testing.B, address string, args ...string) loadReport {
	b.Helper()
	seconds := os.Getenv("TRIBUTARY_BENCH_SECONDS")
	if seconds == "" {
		seconds = "0.3"
	}
	args = append([]string{"bench", "--json", "--version", "3.1.1", "--address", address, "--duration", seconds + "s"}, args...)
	out, err := exec.Command(artefacts.binary, args...).Output()
	var r loadReport
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || r.Errors > 0 {
		b.Fatalf("tributary %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return r
}

// startMosquitto runs a mosquitto with its own defaults until the benchmark ends.
func startMosquitto(b *testing.B) (address string) {
	b.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path = "/usr/sbin/mosquitto"; exec.Command(path, "-h").Run() != nil {
			if _, err := os.Stat(path); err != nil {
				b.Skip("LEFT OUT: the program mosquitto is not installed")
			}
		}
	}
	ln := listenLow(b)
	address = ln.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	ln.Close()
	conf := filepath.Join(b.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		if time.Now().After(deadline) {
			b.Fatal("mosquitto does not listen")
		}
	}
}

// resident is the memory of a process that is in use, in bytes.
func resident(b *testing.B, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		b.Skip("LEFT OUT: the memory of a process is read from /proc")
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n << 10
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
