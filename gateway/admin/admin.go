// Package admin is the gateway's endpoint for operators and machines that watch
// it: the REST API with its description, metrics, liveness, readiness and, where
// configured, profiles. It knows the stages only through the interfaces of its
// Parts; server imports it, config composes its Config. It is the only package
// that knows Prometheus.
package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"path"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tributary.io/gateway/metric"
)

// Server is the admin endpoint. It is safe for concurrent use.
type Server struct {
	http *http.Server
	cert *certificate // nil: plain HTTP
	log  *slog.Logger
}

// shutdownTimeout bounds how long a request may outlive Serve.
const shutdownTimeout = 5 * time.Second

// Parts is what the endpoint shows and changes. All of it must be safe for
// concurrent use.
type Parts struct {
	// Metrics are called once per scrape, as many at once as there are scrapes.
	Metrics []func() []metric.Sample
	// Ready returns why the gateway cannot do its work right now, nothing when it can.
	Ready func() []string
	// Degraded returns what does not work although the gateway does its work, nothing when all
	// does. A nil Degraded is the same.
	Degraded    func() []string
	Registry    Registry                      // nil: there is no API
	Routed      func(application string) bool // whether any route is for it
	Connections Connections
	Groups      Groups
}

// New makes the endpoint. It does no I/O.
func New(cfg Config, parts Parts, log *slog.Logger) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		collector(parts.Metrics),
	)
	mux := http.NewServeMux()
	guard := func(h http.Handler) http.Handler { return h }
	if parts.Registry != nil {
		api := newAPI(parts, log)
		api.register(mux)
		if !cfg.openMetrics() {
			guard = api.guard
		}
		if !loopback(cfg.Address) && cfg.Certificate == "" {
			log.Warn("the admin API is reached from other machines without TLS, so tokens cross the network in clear; set admin.certificate and "+
				"admin.key, or put a TLS proxy before it", "address", cfg.Address)
		}
	}
	mux.Handle("GET /metrics", guard(promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: errorLog{log},
		// What is sound is shown; what is not goes to the log.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             20 * time.Second,
	})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { writeReady(w, parts) })
	if cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	var cert *certificate
	if cfg.Certificate != "" {
		cert = &certificate{certificate: cfg.Certificate, key: cfg.Key, log: log}
	}
	return &Server{log: log, cert: cert, http: &http.Server{
		Handler:           exact(mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s unless asked otherwise
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// exact refuses paths that lead elsewhere than they say, which a ServeMux would answer
// with a redirect: a client that follows one with a DELETE deletes what is above.
func exact(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		given := req.URL.EscapedPath()
		if given == "" || path.Clean(given) == strings.TrimSuffix(given, "/") || given == "/" {
			next.ServeHTTP(w, req)
			return
		}
		refuse(w, failed(http.StatusBadRequest, "",
			"the path has an empty part, . or .., which lead to another one; in a name, write %%2E for each dot"))
	})
}

// Serve answers requests on ln until ctx ends, then closes ln and returns nil
// once the requests that run are done or five seconds have passed. It may be
// called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.cert != nil {
		if _, err := s.cert.get(nil); err != nil {
			ln.Close()
			return fmt.Errorf("serving the admin endpoint with TLS: %w", err)
		}
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.get, NextProtos: []string{"http/1.1"}})
	}
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
func writeReady(w http.ResponseWriter, parts Parts) {
	reasons := parts.Ready()
	answer := struct {
		Ready    bool     `json:"ready"`
		Reasons  []string `json:"reasons"`
		Degraded []string `json:"degraded,omitempty"`
	}{Ready: len(reasons) == 0, Reasons: append([]string{}, reasons...)}
	if parts.Degraded != nil {
		answer.Degraded = parts.Degraded()
	}
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
