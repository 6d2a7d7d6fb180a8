package server

import (
	"fmt"
	"maps"
	"net"
	"slices"

	"tributary.io/gateway/auth"
	"tributary.io/gateway/config"
	"tributary.io/gateway/listener/mqtt"
	"tributary.io/gateway/listener/transport"
	"tributary.io/gateway/stage"
)

// door is one way in for MQTT clients.
type door struct {
	key   string // of its table in the settings
	of    config.MQTT
	rules *mqtt.Listener
	ln    net.Listener // once it is open
}

// doors makes the rules of every listener that has an address, in the order of
// their names.
func doors(listeners config.Listeners, identity *auth.Auth) ([]door, error) {
	var list []door
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
		list = append(list, door{key: key, of: of, rules: &mqtt.Listener{Name: name, Auth: chain, Limits: of.Limits}})
	}
	return list, nil
}

// listen opens every door, and the listener of the admin endpoint, if it has an
// address. On an error none stays open.
func (s *Server) listen(doors []door) (outside net.Listener, err error) {
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
	for i := range doors {
		d := &doors[i]
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
	if address := s.cfg.Admin.Address; address != "" {
		return bind("admin", "admin.address", address)
	}
	return nil, nil
}

// transportMetrics are the metrics of the listeners that are more than plain TCP.
func transportMetrics(doors []door) []stage.Metric {
	var all []stage.Metric
	for i := range doors {
		if l, ok := doors[i].ln.(*transport.Listener); ok {
			all = append(all, l.Metrics()...)
		}
	}
	return all
}
