// Package e2e proves the gateway from outside: its tests start the real binary
// as a process with a configuration of its own, talk to it with real clients
// (mosquitto's, paho.golang, mqtt.js, raw TCP), kill it, fill its disk, feed it
// garbage, and look at what its consumers and its store then hold. Nobody
// imports it.
//
// A client program that is missing is named and left out; with the environment
// variable TRIBUTARY_REQUIRE_CLIENTS=1 it is a failure. mqtt.js is looked for in
// NODE_PATH and in TRIBUTARY_MQTTJS_DIR (a directory with node_modules). With
// TRIBUTARY_E2E_RACE=1 the gateway itself is built with the race detector, which
// takes some minutes: a detected race fails the test.
package e2e
