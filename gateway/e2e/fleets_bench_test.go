package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"tributary.io/gateway/store"
)

// BenchmarkFleets measures updates of shadows beside plain telemetry with the same
// payload through the decoder example and through drogue, in turns: each iteration is
// a round, and what is reported is the median of the rounds and of the ratios within a
// round. Before, 10,000 devices connect and update their shadows, which tells the
// bytes of one in the files of the store, its events in the log and the store's own
// log included; state-B is names and values of the plugin's state alone.
//
// TRIBUTARY_BENCH_SECONDS is the length of each load; the default only shows that
// everything works.
func BenchmarkFleets(b *testing.B) {
	devices, name := 10_000, "10000"
	if os.Getenv("TRIBUTARY_BENCH_SECONDS") == "" {
		devices, name = 500, "500"
	}
	g := start(b, besideConfig()+fleetsPlugin()+`
[[routes]]
application = "shadows"
type = "io.tributary.publish.v1"
plugin = "fleets"
[applications.shadows]
anonymous = true
`)
	const shadow = "$emqx/things/{client}/shadow/update"
	const payload = `{"state":{"reported":{"temperature":21.5,"targetTemperature":22,"humidity":48.2,"mode":"auto","online":true,"firmware":"1.4.2"}},"clientToken":"{stamp}","version":0}`
	many := []string{"--username", "@shadows", "--publishers", name, "--window", "1", "--topic", shadow, "--payload", payload}
	before := g.storeBytes(b)
	load(b, g.mqtt, append(many, "--messages", name, "--duration", "60s")...)
	after := g.storeBytes(b)
	results := map[string][]float64{}
	for b.Loop() {
		round := map[string]float64{}
		for _, l := range []struct{ name, user, topic string }{
			{"decoder", "@fleet", "shadow"}, {"drogue", "@plain", "shadow"}, {"update", "@shadows", shadow},
		} {
			r := load(b, g.mqtt, "--username", l.user, "--topic", l.topic, "--payload", payload)
			round[l.name] = r.AckRate
			results[l.name+"/s"] = append(results[l.name+"/s"], r.AckRate)
		}
		results["decoder/update"] = append(results["decoder/update"], round["decoder"]/round["update"])
		results["drogue/update"] = append(results["drogue/update"], round["drogue"]/round["update"])
		r := load(b, g.mqtt, many...)
		results["update-"+name+"-devices/s"] = append(results["update-"+name+"-devices/s"], r.AckRate)
	}
	for name, v := range results {
		b.ReportMetric(median(v), name)
	}
	b.ReportMetric(0, "ns/op") // the length of a round says nothing
	b.ReportMetric((after-before)/float64(devices), "file-B/device")
	if status := g.stop(); status != 0 {
		b.Fatalf("exit status %d", status)
	}
	b.ReportMetric(g.stateBytes(b, "shadows\x00fleets\x00")/float64(devices), "state-B/device")
}

// storeBytes is the size of the files of the store.
func (g *gateway) storeBytes(b *testing.B) (sum float64) {
	b.Helper()
	err := filepath.WalkDir(filepath.Join(g.dir, "store"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // a file that was just compacted away
		}
		if info, err := e.Info(); err == nil {
			sum += float64(info.Size())
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}

// stateBytes is the size of names and values of state in the store of the stopped gateway.
func (g *gateway) stateBytes(b *testing.B, prefix string) (sum float64) {
	b.Helper()
	st := g.disk()
	defer st.Close()
	err := st.Scan(store.State, prefix, func(name string, value []byte, _ store.Revision) bool {
		sum += float64(len(name) + len(value))
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}
