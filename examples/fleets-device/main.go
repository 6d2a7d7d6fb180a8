// Command fleets-device is a simulated thermostat that speaks EMQX Fleets: it
// reports its shadow, does what is desired of it, obeys commands and works on
// jobs. README.md says how to run it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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
		fmt.Fprintln(os.Stderr, "fleets-device:", err)
		os.Exit(1)
	}
}

// run is the device until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fleets-device", flag.ContinueOnError)
	broker := flags.String("broker", "mqtt://127.0.0.1:1883", "`URL` of the gateway")
	thing := flags.String("thing", "t1", "the thing's `name`, which is its client id, too")
	username := flags.String("username", "", "MQTT user `name`: <device>@<application>, or @<application> where that is open")
	password := flags.String("password", os.Getenv("FLEETS_PASSWORD"), "MQTT `password`; default: $FLEETS_PASSWORD")
	step := flags.Duration("step", 500*time.Millisecond, "`time` that a step of a job takes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := url.Parse(*broker)
	if err != nil {
		return fmt.Errorf("reading --broker: %w", err)
	}
	d := &device{thing: *thing, out: out, step: *step, inbox: make(chan *paho.Publish, 64), target: 20, temperature: 20}
	arrived := func(p paho.PublishReceived) (bool, error) {
		select {
		case d.inbox <- p.Packet:
		case <-ctx.Done():
		}
		return true, nil
	}
	config := autopaho.ClientConfig{
		ServerUrls: []*url.URL{server}, KeepAlive: 30, ConnectUsername: *username, ConnectPassword: []byte(*password),
		// A persistent session: what is sent while the device is away waits for it.
		CleanStartOnInitialConnection: false, SessionExpiryInterval: 24 * 60 * 60,
		OnConnectionUp: d.connected,
		OnConnectError: func(err error) { d.log("cannot connect: %v", err) },
		ClientConfig:   paho.ClientConfig{ClientID: *thing, OnPublishReceived: []func(paho.PublishReceived) (bool, error){arrived}},
	}
	if *username == "" {
		config.ConnectPassword = nil
	}
	if d.connection, err = autopaho.NewConnection(ctx, config); err != nil {
		return fmt.Errorf("connecting to %s: %w", *broker, err)
	}
	d.serve(ctx)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return d.connection.Disconnect(bye)
}

// device is the thermostat. Only serve touches its temperatures.
type device struct {
	thing       string
	out         io.Writer
	step        time.Duration
	connection  *autopaho.ConnectionManager
	inbox       chan *paho.Publish
	target      float64
	temperature float64
}

func (d *device) log(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *device) topic(rest string) string { return "$emqx/things/" + d.thing + "/" + rest }

// connected subscribes on every connection; a session that was kept has the
// subscriptions already, and the same again do no harm.
func (d *device) connected(c *autopaho.ConnectionManager, ack *paho.Connack) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s := &paho.Subscribe{}
	for _, filter := range []string{d.topic("shadow/update/delta"), d.topic("shadow/update/rejected"), d.topic("jobs/notify-next"),
		d.topic("jobs/start-next/accepted"),
		"$emqx/commands/things/" + d.thing + "/executions/+/request"} {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: filter, QoS: 1})
	}
	if _, err := c.Subscribe(ctx, s); err != nil {
		d.log("cannot subscribe: %v", err)
		return
	}
	d.log("connected, session kept: %v", ack.SessionPresent)
	select {
	case d.inbox <- &paho.Publish{}: // report
	case <-ctx.Done():
	}
}

// serve handles one message after the other.
func (d *device) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-d.inbox:
			if err := d.handle(ctx, p); err != nil && ctx.Err() == nil {
				d.log("%s: %v", p.Topic, err)
			}
		}
	}
}

func (d *device) handle(ctx context.Context, p *paho.Publish) error {
	commands, isCommand := strings.CutSuffix(p.Topic, "/request")
	switch {
	case p.Topic == "":
		if err := d.report(ctx); err != nil {
			return err
		}
		return d.publish(ctx, d.topic("jobs/start-next"), map[string]any{"thingName": d.thing})
	case p.Topic == d.topic("shadow/update/delta"):
		return d.desired(ctx, p.Payload)
	case p.Topic == d.topic("jobs/notify-next"):
		return d.publish(ctx, d.topic("jobs/start-next"), map[string]any{"thingName": d.thing})
	case p.Topic == d.topic("jobs/start-next/accepted"):
		return d.work(ctx, p.Payload)
	case isCommand:
		return d.obey(ctx, commands, p.Payload)
	case strings.HasSuffix(p.Topic, "/accepted"): // as it should be
		return nil
	}
	d.log("%s %s", p.Topic, p.Payload)
	return nil
}

// report says how the device is.
func (d *device) report(ctx context.Context) error {
	d.log("reporting %v °C, target %v °C", d.temperature, d.target)
	return d.publish(ctx, d.topic("shadow/update"),
		map[string]any{"state": map[string]any{"reported": map[string]any{"temperature": d.temperature, "targetTemperature": d.target}}})
}

// desired does what is desired, and reports what it really did.
func (d *device) desired(ctx context.Context, payload []byte) error {
	var delta struct {
		State struct {
			Target *float64 `json:"targetTemperature"`
		} `json:"state"`
	}
	if err := json.Unmarshal(payload, &delta); err != nil {
		return err
	}
	if delta.State.Target == nil {
		return nil
	}
	d.log("desired: %v °C", *delta.State.Target)
	d.target = min(max(*delta.State.Target, 5), 30) // a thermostat has its limits
	return d.report(ctx)
}

// obey does a command and says how it went.
func (d *device) obey(ctx context.Context, execution string, payload []byte) error {
	var command struct {
		Action string `json:"action"`
		Params struct {
			Value *float64 `json:"value"`
		} `json:"params"`
	}
	if err := json.Unmarshal(payload, &command); err != nil {
		return err
	}
	d.log("command %s", command.Action)
	if command.Action != "setTemperature" || command.Params.Value == nil {
		return d.publish(ctx, execution+"/response", map[string]any{"status": "REJECTED",
			"result": map[string]any{"reason": "the action is setTemperature with params.value"}})
	}
	d.target = *command.Params.Value
	if err := d.publish(ctx, execution+"/response", map[string]any{"status": "SUCCEEDED",
		"result": map[string]any{"targetTemperature": d.target}}); err != nil {
		return err
	}
	return d.report(ctx)
}

// work does a job in steps.
func (d *device) work(ctx context.Context, payload []byte) error {
	var answer struct {
		Execution *struct {
			Job      string          `json:"jobId"`
			Document json.RawMessage `json:"jobDocument"`
		} `json:"execution"`
	}
	if err := json.Unmarshal(payload, &answer); err != nil {
		return err
	}
	if answer.Execution == nil {
		return nil // there is nothing to do
	}
	d.log("job %s", answer.Execution.Document)
	for _, progress := range []string{"50%", "100%"} {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d.step):
		}
		status := "IN_PROGRESS"
		if progress == "100%" {
			status = "SUCCEEDED"
		}
		d.log("job at %s", progress)
		update := map[string]any{"thingName": d.thing, "status": status, "statusDetails": map[string]any{"progress": progress}}
		if err := d.publish(ctx, d.topic("jobs/"+answer.Execution.Job+"/update"), update); err != nil {
			return err
		}
	}
	return nil
}

// publish sends a message and waits until the gateway has it on disk.
func (d *device) publish(ctx context.Context, topic string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("writing a message for %s: %w", topic, err)
	}
	ack, err := d.connection.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: text})
	if err != nil && ack != nil {
		return fmt.Errorf("publishing to %s: reason code %#x: %w", topic, ack.ReasonCode, err)
	}
	if err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	return nil
}
