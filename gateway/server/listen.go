package server

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"

	"tributary.io/gateway/auth"
	"tributary.io/gateway/config"
	"tributary.io/gateway/listener/http"
	"tributary.io/gateway/listener/mqtt"
	"tributary.io/gateway/listener/transport"
	"tributary.io/gateway/metric"
)

// mqttListener is one way in for MQTT clients.
type mqttListener struct {
	key   string // of its table in the settings
	of    config.MQTT
	rules *mqtt.Listener
	ln    net.Listener // once it is open
}

// mqttListeners makes the rules of every listener that has an address, in the order of
// their names.
func mqttListeners(listeners config.Listeners, identity *auth.Auth) ([]mqttListener, error) {
	var list []mqttListener
	for _, name := range slices.Sorted(maps.Keys(listeners.MQTT)) {
		of := listeners.MQTT[name]
		if of.Address == "" {
			continue
		}
		name = "mqtt." + name
		key := "listeners." + name
		chain, err := identity.Chain(of.Auth)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		list = append(list, mqttListener{key: key, of: of, rules: &mqtt.Listener{Name: name, Auth: chain, Limits: of.Limits}})
	}
	return list, nil
}

// httpListener is one HTTP listener.
type httpListener struct {
	key    string // of its table in the settings
	of     config.HTTP
	name   string
	server *http.Server
	ln     net.Listener // once it is open
}

// httpListeners makes every HTTP listener that has an address, in the order of their names.
func httpListeners(listeners config.Listeners, identity *auth.Auth, rt http.Router, area http.Files, parts http.EventParts,
	log *slog.Logger) ([]httpListener, error) {
	var list []httpListener
	for _, name := range slices.Sorted(maps.Keys(listeners.HTTP)) {
		of := listeners.HTTP[name]
		if of.Address == "" {
			continue
		}
		name = "http." + name
		key := "listeners." + name
		chain, err := identity.Chain(of.Auth)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		w := httpListener{key: key, of: of, name: name, server: http.New(name, of.Limits, chain, rt, area, log)}
		parts.Authority = chain
		w.server.UseEvents(parts)
		list = append(list, w)
	}
	return list, nil
}

// listen opens every listener, and the listener of the admin endpoint, if it has an
// address. On an error none stays open.
func (s *Server) listen(mqttListeners []mqttListener, httpListeners []httpListener) (outside net.Listener, err error) {
	var open []net.Listener
	defer func() {
		if err != nil {
			for _, ln := range open {
				ln.Close()
			}
		}
	}()
	bind := func(name, key, address string) (net.Listener, error) {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listening for %s: %w; is another gateway running? Else set %s to another address", name, err, key)
		}
		open = append(open, ln)
		s.log.Info("listening", "listener", name, "address", ln.Addr().String())
		return ln, nil
	}
	for i := range mqttListeners {
		d := &mqttListeners[i]
		if d.ln, err = bind(d.rules.Name, d.key+".address", d.of.Address); err != nil {
			return nil, err
		}
		l := &d.of.Limits
		d.ln, err = transport.Wrap(d.ln, d.of.Transport, transport.Options{Name: d.rules.Name, Timeout: l.ConnectTimeout,
			Pending: l.MaxConnecting, PendingPerAddress: l.MaxConnectingPerAddress}, s.log)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.key, err)
		}
	}
	for i := range httpListeners {
		w := &httpListeners[i]
		if w.ln, err = bind(w.name, w.key+".address", w.of.Address); err != nil {
			return nil, err
		}
		l := &w.of.Limits
		w.ln, err = transport.Wrap(w.ln, w.of.Transport(), transport.Options{Name: w.name, Timeout: l.HeaderTimeout, Pending: l.MaxConnections,
			ALPN: []string{"http/1.1"}}, s.log)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.key, err)
		}
	}
	if address := s.cfg.Admin.Address; address != "" {
		return bind("admin", "admin.address", address)
	}
	return nil, nil
}

// checkTransports reads the files of every listener that has an address.
func checkTransports(listeners config.Listeners, log *slog.Logger) error {
	var errs []error
	check := func(name, address string, c transport.Config) {
		if address == "" {
			return
		}
		if err := transport.Check(c, log); err != nil {
			errs = append(errs, fmt.Errorf("listeners.%s: %w", name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listeners.MQTT)) {
		l := listeners.MQTT[name]
		check("mqtt."+name, l.Address, l.Transport)
	}
	for _, name := range slices.Sorted(maps.Keys(listeners.HTTP)) {
		l := listeners.HTTP[name]
		check("http."+name, l.Address, l.Transport())
	}
	return errors.Join(errs...)
}

// transportMetrics are the metrics of HTTP listeners, and of all that are more than
// plain TCP.
func transportMetrics(mqttListeners []mqttListener, httpListeners []httpListener) []metric.Sample {
	var all []metric.Sample
	for i := range httpListeners {
		all = append(all, httpListeners[i].server.Metrics()...)
		if l, ok := httpListeners[i].ln.(*transport.Listener); ok {
			all = append(all, l.Metrics()...)
		}
	}
	for i := range mqttListeners {
		if l, ok := mqttListeners[i].ln.(*transport.Listener); ok {
			all = append(all, l.Metrics()...)
		}
	}
	return all
}
