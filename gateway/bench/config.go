// Package bench is the load generator behind "tributary bench": MQTT clients that
// publish, consume or merely stay connected, and a report of what the server did.
// It speaks plain MQTT, so that any broker can be measured with the same client.
//
// The clients are written to cost little beside the server under test: one
// goroutine each, whole windows in one write, every acknowledgement that has
// arrived in one read. Only the command line imports this package.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/topic"
)

// Config says what to measure. Publishers, subscribers and idle connections may be
// combined; at least one of them is needed.
//
// Topic, ConsumeFilter, Payload and Username are templates: %d or {n} is the number
// of the client, from 0; {client} its client identifier; and, in Payload only, {seq}
// the number of the message, {unix} and {unixms} the time of sending, {stamp} 24
// characters by which this run's subscribers recognise a message and tell how long it
// took. Other braces are text, so that JSON needs no escape.
type Config struct {
	Address string // host:port of a TCP listener
	Version byte   // packet.V311 or packet.V5

	Publishers int
	Window     int           // messages that a publisher has in flight, 1 to 10,000; a smaller Receive Maximum of the server counts
	QoS        byte          // 0, 1 or 2, of publishers and subscribers
	Topic      string        // where publishers send
	Payload    string        // what they send; empty: PayloadBytes of text that begins with {stamp}
	PayloadLen int           // bytes, when Payload is empty
	Rate       int           // messages per second of all publishers together; 0: as fast as acknowledgements allow
	Messages   int           // of all publishers together; 0: until Duration is over
	Duration   time.Duration // the run ends here at the latest, but for the drain

	Subscribers   int
	ConsumeFilter string // what they subscribe to, e.g. $share/bench/app/demo; empty: the Topic of the publisher with the same number

	Idle int // connections that do nothing; they subscribe to ConsumeFilter if it is set

	Username       string
	Password       string
	ClientIDPrefix string // publishers are <prefix>-<n>, subscribers <prefix>-sub-<n>, idle ones <prefix>-idle-<n>

	ConnectTimeout time.Duration // for each connection, up to its SUBACK
	Drain          time.Duration // how long to wait at the end for what is still under way

	// AllowRemote permits a server that is not on this machine. A load generator can
	// take a service down: it is for those who own the service.
	AllowRemote bool
}

// Topic and payload of a shadow update, the JSON message of a typical device.
const (
	ShadowTopic   = "$emqx/things/{client}/shadow/update"
	ShadowPayload = `{"state":{"reported":{"temperature":21.5,"targetTemperature":22,"humidity":48.2,"mode":"auto","online":true,"firmware":"1.4.2"}},"clientToken":"{stamp}","version":0}`
)

// Default is twenty devices with fifty messages of 200 bytes in flight each, at
// QoS 1, for ten seconds.
func Default() Config {
	return Config{
		Address: "127.0.0.1:1883", Version: packet.V5,
		Publishers: 20, Window: 50, QoS: 1, Topic: "bench/%d", PayloadLen: 200, Duration: 10 * time.Second,
		ClientIDPrefix: "bench", ConnectTimeout: 10 * time.Second, Drain: 5 * time.Second,
	}
}

const maxClients = 60_000 // about the ports of one address

// Validate says what is wrong with the settings, all of it.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	clients := c.Publishers + c.Subscribers + c.Idle
	check(c.Version == packet.V311 || c.Version == packet.V5, "version %d: want 4 (MQTT 3.1.1) or 5", c.Version)
	check(c.Publishers >= 0 && c.Subscribers >= 0 && c.Idle >= 0 && clients > 0 && clients <= maxClients,
		"%d clients: want 1 to %d publishers, subscribers and idle connections together", clients, maxClients)
	check(c.Window >= 1 && c.Window <= 10_000, "window %d: want 1 to 10,000", c.Window)
	check(c.QoS <= 2, "qos %d: want 0, 1 or 2", c.QoS)
	check(c.PayloadLen >= 0 && c.PayloadLen <= 16<<20 && len(c.Payload) <= 16<<20, "payload: want at most 16 MiB")
	check(c.Rate >= 0, "rate %d: want 0 (unlimited) or more", c.Rate)
	check(c.Messages >= 0, "messages %d: want 0 (unlimited) or more", c.Messages)
	check(c.Duration > 0 && c.Duration <= 24*time.Hour, "duration %v: want up to 24 hours", c.Duration)
	check(c.ConnectTimeout > 0, "connect timeout %v: want more than 0", c.ConnectTimeout)
	check(c.Drain > 0, "drain %v: want more than 0", c.Drain)
	check(c.ClientIDPrefix != "" && topic.ValidName(c.ClientIDPrefix), "client id prefix %q: want some text", c.ClientIDPrefix)
	name := expand(c.Topic, "x", 0)
	check(c.Publishers == 0 || topic.ValidName(name), "topic %q: not a topic name", name)
	if filter := c.filter("x", 0); c.Subscribers > 0 || c.ConsumeFilter != "" {
		check(topic.ValidSubscription(filter), "filter %q: not a topic filter", filter)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// filter is what the subscriber with this number subscribes to.
func (c *Config) filter(client string, n int) string {
	if c.ConsumeFilter != "" {
		return expand(c.ConsumeFilter, client, n)
	}
	return expand(c.Topic, c.publisherID(n), n)
}

func (c *Config) publisherID(n int) string { return fmt.Sprintf("%s-%d", c.ClientIDPrefix, n) }

// expand fills in the variables that stand for a client.
func expand(template, client string, n int) string {
	number := fmt.Sprint(n)
	return strings.NewReplacer("%d", number, "{n}", number, "{client}", client).Replace(template)
}

// resolve finds the address to connect to, and refuses one on another machine. The
// run then uses the address that was checked, whatever the name says later.
func resolve(ctx context.Context, c *Config) (string, error) {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return "", fmt.Errorf("bench: address %q: want host:port: %w", c.Address, err)
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return "", fmt.Errorf("bench: looking up %s: %w", host, err)
	}
	if !c.AllowRemote {
		for _, a := range addrs {
			if !a.IP.IsLoopback() {
				return "", fmt.Errorf("bench: %s (%s) is not on this machine, and a load generator can take a service down; "+
					"if the service is yours, allow remote addresses", c.Address, a.IP)
			}
		}
	}
	return net.JoinHostPort(addrs[0].String(), port), nil
}
