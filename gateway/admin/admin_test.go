package admin

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/metric"
)

// start serves an endpoint until the test ends and returns its URL.
func start(t *testing.T, cfg Config, metrics []func() []metric.Sample, ready func() []string, logs io.Writer) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := New(cfg, Parts{Metrics: metrics, Ready: ready}, slog.New(slog.NewTextHandler(logs, nil)))
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestMetrics(t *testing.T) {
	h := &metric.Histogram{}
	h.Observe(75 * time.Microsecond)
	h.Observe(20 * time.Second)
	one := func() []metric.Sample {
		return []metric.Sample{
			{Name: "tributary_x_total", Help: "Things.", Kind: metric.CounterKind, Value: 3,
				Labels: []metric.Label{{Name: "verdict", Value: `a"b\c`}}},
			{Name: "tributary_x_total", Help: "Things.", Kind: metric.CounterKind, Value: 4, Labels: []metric.Label{{Name: "verdict", Value: "d"}}},
			{Name: "tributary_wait_seconds", Help: "Waiting.", Kind: metric.HistogramKind, Hist: h},
		}
	}
	two := func() []metric.Sample {
		return []metric.Sample{{Name: "tributary_lag", Help: "Lag.", Kind: metric.GaugeKind, Value: 1.5}}
	}
	url := start(t, Default(), []func() []metric.Sample{one, two}, nil, io.Discard)
	status, body := get(t, url+"/metrics")
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	for _, want := range []string{
		"# TYPE tributary_x_total counter\n",
		`tributary_x_total{verdict="a\"b\\c"} 3` + "\n",
		`tributary_x_total{verdict="d"} 4` + "\n",
		"# HELP tributary_lag Lag.\n# TYPE tributary_lag gauge\ntributary_lag 1.5\n",
		`tributary_wait_seconds_bucket{le="5e-05"} 0` + "\n",
		`tributary_wait_seconds_bucket{le="0.0001"} 1` + "\n",
		`tributary_wait_seconds_bucket{le="10"} 1` + "\n",
		`tributary_wait_seconds_bucket{le="+Inf"} 2` + "\n",
		"tributary_wait_seconds_sum 20.000075\n",
		"tributary_wait_seconds_count 2\n",
		"go_goroutines ",
		"process_resident_memory_bytes ",
		"go_build_info{",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("missing: %s", want)
		}
	}
}

// A stage's mistake must not hide the metrics of the others.
func TestMetricsWithMistakes(t *testing.T) {
	bad := func() []metric.Sample {
		return []metric.Sample{
			{Name: "tributary_label_twice", Help: "x", Kind: metric.CounterKind, Labels: []metric.Label{{Name: "a"}, {Name: "a"}}},
			{Name: "tributary_no_histogram", Help: "x", Kind: metric.HistogramKind},
			{Name: "tributary_twice", Help: "x", Kind: metric.GaugeKind, Value: 1},
			{Name: "tributary_twice", Help: "x", Kind: metric.GaugeKind, Value: 2},
			{Name: "tributary_good", Help: "x", Kind: metric.GaugeKind, Value: 7},
		}
	}
	var logs bytes.Buffer
	t.Run("scrape", func(t *testing.T) {
		url := start(t, Default(), []func() []metric.Sample{bad}, nil, &logs)
		status, body := get(t, url+"/metrics")
		if status != 200 || !strings.Contains(body, "tributary_good 7\n") {
			t.Errorf("status %d:\n%s", status, body)
		}
	})
	for _, want := range []string{"label", "tributary_no_histogram", "tributary_twice"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log does not mention %q: %s", want, logs.String())
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	var reasons []string
	url := start(t, Default(), nil, func() []string { return reasons }, io.Discard)
	check := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		if status, body := get(t, url+path); status != wantStatus || body != wantBody {
			t.Errorf("%s: %d %q, want %d %q", path, status, body, wantStatus, wantBody)
		}
	}
	check("/readyz", 200, `{"ready":true,"reasons":[]}`+"\n")
	reasons = []string{"the store refuses writes", "starting"}
	check("/readyz", 503, `{"ready":false,"reasons":["the store refuses writes","starting"]}`+"\n")
	check("/healthz", 200, "ok\n")
}

// What is degraded is told beside, and takes no traffic away.
func TestDegraded(t *testing.T) {
	list := []string{"a file is damaged"}
	w := httptest.NewRecorder()
	writeReady(w, Parts{Ready: func() []string { return nil }, Degraded: func() []string { return list }})
	if want := `{"ready":true,"reasons":[],"degraded":["a file is damaged"]}` + "\n"; w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
	list = nil
	w = httptest.NewRecorder()
	writeReady(w, Parts{Ready: func() []string { return []string{"starting"} }, Degraded: func() []string { return list }})
	if want := `{"ready":false,"reasons":["starting"]}` + "\n"; w.Code != 503 || w.Body.String() != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
}

func TestPaths(t *testing.T) {
	off := start(t, Default(), nil, func() []string { return nil }, io.Discard)
	on := start(t, Config{Pprof: true}, nil, func() []string { return nil }, io.Discard)
	for _, tt := range []struct {
		url    string
		status int
	}{
		{off + "/debug/pprof/", 404},
		{off + "/", 404},
		{on + "/debug/pprof/", 200},
		{on + "/debug/pprof/goroutine?debug=1", 200},
	} {
		if status, _ := get(t, tt.url); status != tt.status {
			t.Errorf("%s: %d, want %d", tt.url, status, tt.status)
		}
	}
	resp, err := http.Post(off+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

func TestServeFailsOnAClosedListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	s := New(Default(), Parts{}, slog.New(slog.DiscardHandler))
	if err := s.Serve(context.Background(), ln); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("got %v, want an error with the address", err)
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string // part of the error; empty: valid
	}{
		{Default(), ""},
		{Config{}, ""},
		{Config{Address: "127.0.0.1:0", Pprof: true}, ""},
		{Config{Address: "[::1]:1", Pprof: true}, ""},
		{Config{Address: "localhost:1", Pprof: true}, ""},
		{Config{Address: ":8080"}, ""},
		{Config{Address: "8080"}, "address is"},
		{Config{Address: ":8080", Pprof: true}, "pprof is on"},
		{Config{Address: "0.0.0.0:8080", Pprof: true}, "pprof is on"},
		{Config{Address: "gateway.example:8080", Pprof: true}, "pprof is on"},
		{Config{Address: ":8443", Certificate: "a.pem"}, "certificate and key belong together"},
	} {
		err := tt.cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.cfg, err)
		}
	}
}
