package e2e

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// BenchmarkEixam measures telemetry and alerts that open an incident beside plain
// messages through drogue, with the same clients and payload, in turns: each iteration
// is a round, and what is reported is the median of the rounds and of the ratios within
// a round.
//
// TRIBUTARY_BENCH_SECONDS is about the length of each load; the default only shows that
// everything works.
func BenchmarkEixam(b *testing.B) {
	phones, each := 50, 20
	if s, err := strconv.Atoi(os.Getenv("TRIBUTARY_BENCH_SECONDS")); err == nil {
		phones, each = 500, 100*s
	}
	g := start(b, demo(`
[[routes]]
application = "eixam"
plugin = "eixam"
`, eixamPlugin("http://127.0.0.1", `grace_seconds = "3600"`)+`
[applications.eixam]
anonymous = true
[users.ak_test]
password_hashes = ["`+hashed(b, "sk_test")+`"]
read = ["eixam"]
write = ["eixam"]
[listeners.http.rest]
address = "127.0.0.1:0"
application = "eixam"
auth = ["password"]
`))
	g.asked("PUT", "/v1/admin/apps/a", `{"actuators":["emergency_contacts","slack"]}`, 200, nil)
	ids := make([]string, phones)
	for i := range ids {
		ids[i] = fmt.Sprintf("11111111-1111-1111-1111-%012d", i)
		g.asked("POST", "/v1/admin/apps/a/users", fmt.Sprintf(`{"id":"%s","external_user_id":"u%d"}`, ids[i], i), 201, nil)
		g.asked("POST", "/v1/admin/apps/a/users/"+ids[i]+"/contacts", `{"name":"C","phone":"+34600000001"}`, 201, nil)
	}
	stamp := time.Now()
	results := map[string][]float64{}
	for b.Loop() {
		telemetry := func(i int) string { return "tel/" + ids[i] + "/data" }
		alert := func(i int) string { return "sos/alerts/" + ids[i] }
		plain := func(int) string { return "telemetry" }
		few := min(phones, 20)
		pace := map[string]float64{
			"drogue":    g.blast(b, "@demo", ids[:few], plain, each*phones/few, &stamp),
			"telemetry": g.blast(b, "@eixam", ids[:few], telemetry, each*phones/few, &stamp),
			"one-each":  g.blast(b, "@demo", ids, plain, 1, &stamp),
			"sos":       g.blast(b, "@eixam", ids, alert, 1, &stamp),
		}
		for name, v := range pace {
			results[name+"/s"] = append(results[name+"/s"], v)
		}
		results["telemetry/drogue"] = append(results["telemetry/drogue"], pace["telemetry"]/pace["drogue"])
		results["sos/one-each"] = append(results["sos/one-each"], pace["sos"]/pace["one-each"])
		for _, id := range ids {
			g.asked("POST", "/v1/admin/apps/a/users/"+id+"/sos/cancel", "", 200, nil)
		}
	}
	for name, v := range results {
		b.ReportMetric(median(v), name)
	}
	b.ReportMetric(0, "ns/op") // the length of a round says nothing
}

// blast connects clients, has each publish so many messages, 50 in flight, and returns
// how many a second were acknowledged. Each message has a time of its own.
func (g *gateway) blast(b *testing.B, username string, ids []string, topic func(i int) string, each int, stamp *time.Time) float64 {
	b.Helper()
	clients := make([]*client, len(ids))
	for i, id := range ids {
		clients[i], _ = g.login(packet.Connect{Version: packet.V311, CleanStart: true, ClientID: id, Username: username, HasUsername: true})
	}
	*stamp = stamp.Add(time.Minute)
	begin := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			const window = 50
			for sent, got := 0, 0; got < each; {
				for ; sent < each && sent-got < window; sent++ {
					at := stamp.Add(time.Duration(sent) * time.Microsecond).UTC().Format(time.RFC3339Nano)
					if err := c.write(&packet.Publish{Topic: topic(i), QoS: 1, ID: uint16(sent%60000 + 1),
						Payload: []byte(`{"timestamp":"` + at + `","latitude":41.3851,"longitude":2.1734,"mobileBattery":72}`)}); err != nil {
						b.Error(err)
						return
					}
				}
				p, err := c.read()
				if err != nil {
					b.Error(err)
					return
				}
				if _, ok := p.(*packet.Ack); ok {
					got++
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	for _, c := range clients {
		c.nc.Close()
	}
	return float64(len(ids)*each) / took.Seconds()
}
