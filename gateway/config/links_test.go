package config

import (
	"slices"
	"testing"
)

// What Kubernetes 1.31 puts into a container for the services tributary and
// tributary-mqtt, the latter with two ports, one of them named and of UDP, and for one
// whose name has two dashes.
func TestServiceLinks(t *testing.T) {
	links := []string{
		"TRIBUTARY_MQTT_PORT", "TRIBUTARY_MQTT_PORT_1883_TCP", "TRIBUTARY_MQTT_PORT_1883_TCP_ADDR", "TRIBUTARY_MQTT_PORT_1883_TCP_PORT",
		"TRIBUTARY_MQTT_PORT_1883_TCP_PROTO",
		"TRIBUTARY_MQTT_PORT_5684_UDP", "TRIBUTARY_MQTT_PORT_5684_UDP_ADDR", "TRIBUTARY_MQTT_PORT_5684_UDP_PORT",
		"TRIBUTARY_MQTT_PORT_5684_UDP_PROTO",
		"TRIBUTARY_MQTT_SERVICE_HOST", "TRIBUTARY_MQTT_SERVICE_PORT", "TRIBUTARY_MQTT_SERVICE_PORT_COAPS_UDP", "TRIBUTARY_PORT",
		"TRIBUTARY_PORT_8080_TCP", "TRIBUTARY_PORT_8080_TCP_ADDR",
		"TRIBUTARY_PORT_8080_TCP_PORT", "TRIBUTARY_PORT_8080_TCP_PROTO", "TRIBUTARY_SERVICE_HOST", "TRIBUTARY_SERVICE_PORT",
		"TRIBUTARY_SERVICE_PORT_MQTT", "TRIBUTARY_X__Y_SERVICE_HOST",
	}
	values := []string{
		"tcp://10.96.7.1:1883", "tcp://10.96.7.1:1883", "10.96.7.1", "1883", "tcp",
		"udp://10.96.7.1:5684", "10.96.7.1", "5684", "udp",
		"10.96.7.1", "1883", "5684", "tcp://[fd00::7]:8080", "tcp://[fd00::7]:8080", "fd00::7",
		"8080", "tcp", "fd00::7", "8080", "8080", "10.96.7.2",
	}
	var env []string
	for i, name := range links {
		env = append(env, name+"="+values[i])
	}
	cfg, err := Load(Sources{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.ServiceLinks, links) {
		t.Errorf("links: %q", cfg.ServiceLinks)
	}
}
