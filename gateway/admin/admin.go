// Package admin is the gateway's endpoint for operators and machines that watch
// it: metrics, liveness, readiness and, where configured, profiles. It knows the
// stages only through the functions that New is given; server imports it, config
// composes its Config. It is the only package that knows Prometheus.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tributary.io/gateway/stage"
)

// Server is the admin endpoint. It is safe for concurrent use.
type Server struct {
	http *http.Server
	log  *slog.Logger
}

// shutdownTimeout bounds how long a request may outlive Serve.
const shutdownTimeout = 5 * time.Second

// New makes the endpoint. Each of metrics is called once per scrape, as many at
// once as there are scrapes. ready returns why the gateway cannot do its work
// right now, nothing when it can. New does no I/O.
func New(cfg Config, metrics []func() []stage.Metric, ready func() []string, log *slog.Logger) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		collector(metrics),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: errorLog{log},
		// What is sound is shown; what is not goes to the log.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             20 * time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { writeReady(w, ready()) })
	if cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return &Server{log: log, http: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s unless asked otherwise
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Serve answers requests on ln until ctx ends, then closes ln and returns nil
// once the requests that run are done or five seconds have passed. It may be
// called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if s.http.Shutdown(late) != nil {
			s.http.Close()
		}
	})
	err := s.http.Serve(ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the admin endpoint on %s: %w", ln.Addr(), err)
}

// writeReady answers 200 when there are no reasons against it, else 503.
func writeReady(w http.ResponseWriter, reasons []string) {
	answer := struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}{len(reasons) == 0, append([]string{}, reasons...)}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(answer) // an error is the client's going away
}

// errorLog lets promhttp write to slog.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Println(v ...any) {
	e.log.Error("metrics cannot be shown whole", "error", fmt.Sprint(v...))
}
