package config

import (
	"net/netip"
	"regexp"
	"strconv"
)

// linkShape is what Kubernetes calls the variables in which it tells a container of
// each service of its namespace: of the service tributary-mqtt, TRIBUTARY_MQTT_… See
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var linkShape = regexp.MustCompile(`^[A-Z0-9_]+?_(?:(SERVICE_HOST)|(SERVICE_PORT)(?:_[A-Z0-9_]+)?|(PORT)(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(PROTO|PORT|ADDR))?)?)$`)

// serviceLink says whether a variable is one of a Kubernetes service, by its name and
// by its value: with another value it is a setting that is misspelt.
func serviceLink(name, value string) bool {
	m := linkShape.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	kind := m[1] + m[2] + m[4]
	if kind == "" {
		kind = m[3] + "_URL"
	}
	switch kind {
	case "SERVICE_HOST", "ADDR":
		_, err := netip.ParseAddr(value)
		return err == nil
	case "SERVICE_PORT", "PORT":
		_, err := strconv.ParseUint(value, 10, 16)
		return err == nil
	case "PROTO":
		return value == "tcp" || value == "udp" || value == "sctp"
	}
	return linkURL.MatchString(value)
}

var linkURL = regexp.MustCompile(`^(tcp|udp|sctp)://`)
