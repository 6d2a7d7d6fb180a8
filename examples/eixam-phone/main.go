// Command eixam-phone is a simulated phone that speaks Eixam: it asks who it is, listens
// to what happens to its SOS, reports where it is, and sends an SOS. With --contact it is
// the phone of an emergency contact, too. README.md says how to run it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "eixam-phone:", err)
		os.Exit(1)
	}
}

// options are what the phone is told.
type options struct {
	broker, api, app, user, hash, contact string
	track                                 time.Duration
	sos                                   bool
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("eixam-phone", flag.ContinueOnError)
	flags.StringVar(&o.broker, "broker", "mqtt://127.0.0.1:18830", "`URL` of the gateway's MQTT listener")
	flags.StringVar(&o.api, "api", "http://127.0.0.1:18090", "`URL` of the gateway's HTTP listener")
	flags.StringVar(&o.app, "app", "partner-app", "`id` of the app")
	flags.StringVar(&o.user, "user", "partner-user-123", "external `id` of the user")
	flags.StringVar(&o.hash, "hash", os.Getenv("EIXAM_HASH"), "user `hash`; default: $EIXAM_HASH")
	flags.DurationVar(&o.track, "track", 0, "`time` between two positions; 0: none")
	flags.BoolVar(&o.sos, "sos", false, "send an SOS as soon as the phone is connected")
	flags.StringVar(&o.contact, "contact", "", "be the phone of a contact, too: take orders of text messages at this `address`, and show them")
	return o, flags.Parse(args)
}

// run is the phone until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	server, err := url.Parse(o.broker)
	if err != nil {
		return fmt.Errorf("reading --broker: %w", err)
	}
	p := &phone{options: o, out: out, inbox: make(chan []byte, 64), seen: map[string]int{}}
	if o.contact != "" {
		if err := p.serveContact(ctx); err != nil {
			return err
		}
	}
	if p.id, err = p.whoAmI(ctx); err != nil {
		return err
	}
	p.log("I am %s", p.id)
	config := autopaho.ClientConfig{
		ServerUrls: []*url.URL{server}, KeepAlive: 30, CleanStartOnInitialConnection: true,
		ConnectUsername: "sdk:" + o.app + ":" + o.user, ConnectPassword: []byte(o.hash),
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) { p.connected(ctx, c) },
		OnConnectError: func(err error) { p.log("cannot connect: %v", err) },
		ClientConfig: paho.ClientConfig{ClientID: clientID(o.app, o.user), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(m paho.PublishReceived) (bool, error) {
				select {
				case p.inbox <- m.Packet.Payload:
				case <-ctx.Done():
				}
				return true, nil
			}}},
	}
	if p.connection, err = autopaho.NewConnection(ctx, config); err != nil {
		return fmt.Errorf("connecting to %s: %w", o.broker, err)
	}
	p.serve(ctx)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return p.connection.Disconnect(bye)
}

// clientID is what the vendor's clients call themselves.
func clientID(app, user string) string {
	id := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			return c
		}
		return '_'
	}, "eixam_"+app+"_"+user)
	return id[:min(len(id), 64)]
}

// phone is one user of an app.
type phone struct {
	options
	out        io.Writer
	id         string // the UUID that topics have
	connection *autopaho.ConnectionManager
	inbox      chan []byte
	seen       map[string]int // the newest snapshot, by incident; serve alone uses it
}

func (p *phone) log(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// whoAmI asks for the user's UUID; the gateway may just be starting.
func (p *phone) whoAmI(ctx context.Context) (string, error) {
	for try := 1; ; try++ {
		id, err := p.me(ctx)
		if err == nil || try == 10 || ctx.Err() != nil {
			return id, err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (p *phone) me(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.api+"/v1/sdk/me", nil)
	if err != nil {
		return "", fmt.Errorf("reading --api: %w", err)
	}
	req.Header.Set("X-App-ID", p.app)
	req.Header.Set("X-User-ID", p.user)
	req.Header.Set("Authorization", "Bearer "+p.hash)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking who I am: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		User struct {
			ID string `json:"id"`
		} `json:"user"`
		Detail string `json:"detail"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.User.ID == "" {
		return "", fmt.Errorf("asking who I am: %s %s", resp.Status, answer.Detail)
	}
	return answer.User.ID, nil
}

// connected listens on every connection, since no session is kept.
func (p *phone) connected(ctx context.Context, c *autopaho.ConnectionManager) {
	s := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "sos/events/" + p.id, QoS: 1}}}
	if _, err := c.Subscribe(ctx, s); err != nil {
		p.log("cannot subscribe: %v", err)
		return
	}
	p.log("listening")
	if p.sos {
		p.sos = false
		go p.publish(ctx, c, "sos/alerts/"+p.id, "SOS sent", 0)
	}
}

// serve shows what happens, and reports positions.
func (p *phone) serve(ctx context.Context) {
	var tick <-chan time.Time
	if p.track > 0 {
		ticker := time.NewTicker(p.track)
		defer ticker.Stop()
		tick = ticker.C
	}
	for n := 1; ; {
		select {
		case <-ctx.Done():
			return
		case payload := <-p.inbox:
			if text, ok := p.apply(payload); ok {
				p.log("%s", text)
			}
		case <-tick:
			p.publish(ctx, p.connection, "tel/"+p.id+"/data", fmt.Sprintf("position %d sent", n), n)
			n++
		}
	}
}

// publish reports where the phone is: n steps north of Barcelona's cathedral.
func (p *phone) publish(ctx context.Context, c *autopaho.ConnectionManager, topic, done string, n int) {
	text, err := json.Marshal(map[string]any{"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "latitude": 41.3839 + float64(n)/1e4,
		"longitude": 2.1762, "mobileBattery": 72, "mobileCoverage": map[string]any{"networkType": "4g", "isConnected": true}})
	if err != nil {
		p.log("%v", err)
		return
	}
	if ack, err := c.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: text}); err != nil {
		code := byte(0)
		if ack != nil {
			code = ack.ReasonCode
		}
		p.log("%s: reason code %#x: %v", topic, code, err)
		return
	}
	p.log("%s", done)
}

// apply reads an event. A snapshot that is no newer than the last one is dropped.
func (p *phone) apply(payload []byte) (shown string, ok bool) {
	var e struct {
		Type            string `json:"type"`
		IncidentID      string `json:"incidentId"`
		Status          string `json:"status"`
		SnapshotVersion int    `json:"snapshotVersion"`
		Actuators       struct {
			Items []struct {
				ID     string `json:"id"`
				Status string `json:"status"`
			} `json:"items"`
		} `json:"actuators"`
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return fmt.Sprintf("no event: %v", err), true
	}
	text := e.Type + ": " + e.Status
	if e.SnapshotVersion == 0 {
		return text, true
	}
	if e.SnapshotVersion <= p.seen[e.IncidentID] {
		return "", false
	}
	p.seen[e.IncidentID] = e.SnapshotVersion
	text += fmt.Sprintf(", version %d", e.SnapshotVersion)
	for _, item := range e.Actuators.Items {
		text += ", " + item.ID + " " + item.Status
	}
	return text, true
}

// serveContact takes orders of text messages and voice calls, as a provider does, and
// shows what a contact would.
func (p *phone) serveContact(ctx context.Context) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		var o struct{ Channel, To, Text string }
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o); err != nil {
			http.Error(w, "no order", http.StatusBadRequest)
			return
		}
		p.log("%s to %s: %s", o.Channel, o.To, o.Text)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"status":"sent"}`)
	}
	server := &http.Server{Addr: p.contact, Handler: http.HandlerFunc(handler), ReadTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	context.AfterFunc(ctx, func() { server.Close() })
	select {
	case err := <-failed:
		return fmt.Errorf("listening for --contact: %w", err)
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}
