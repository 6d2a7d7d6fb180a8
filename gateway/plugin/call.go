package plugin

import (
	"fmt"
	"strings"
	"time"

	"tributary.io/gateway/outbound/place"
	"tributary.io/sdk-plugin/event"
)

// Bounds of an HTTP call.
const (
	maxCallID      = 256
	maxCallBody    = 256 << 10
	maxCallHeaders = 64
	maxHeaderBytes = 16 << 10 // of all headers
	maxCallTimeout = 5 * time.Minute
)

// checkCall says what is wrong with an HTTP call. It does not show what may hold
// secrets: the path, the headers, the body.
func (g *Grant) checkCall(c *event.Call) *violation {
	wrong := func(format string, args ...any) *violation {
		return &violation{"made an HTTP call that is not possible: " + fmt.Sprintf(format, args...), ""}
	}
	if len(g.Hosts) == 0 {
		return &violation{"made an HTTP call", "hosts"}
	}
	switch {
	case c.ID == "" || len(c.ID) > maxCallID || !event.ValidString(c.ID):
		return wrong("its id has control characters or noncharacters, or not 1 to %d bytes", maxCallID)
	case !isToken(c.Method) || len(c.Method) > 32 || c.Method == "CONNECT" || c.Method == "TRACE":
		return wrong("its method is %.40q", c.Method)
	case len(c.Body) > maxCallBody:
		return wrong("its body has %d bytes, at most %d are possible", len(c.Body), maxCallBody)
	case c.Timeout < 0 || c.Timeout > maxCallTimeout:
		return wrong("its timeout is %v, at most %v is possible", c.Timeout, maxCallTimeout)
	}
	if problem := checkHeaders(c.Headers); problem != "" {
		return wrong("%s", problem)
	}
	u, allowed, err := place.CheckURL(c.URL, parseHosts(g.Hosts))
	if err != nil {
		return wrong("%v", err)
	}
	if !allowed {
		return &violation{fmt.Sprintf("made an HTTP call to %s://%.200s", u.Scheme, u.Host), "hosts"}
	}
	return nil
}

// parseHosts reads the hosts of a valid grant.
func parseHosts(list []string) []place.Host {
	hosts := make([]place.Host, 0, len(list))
	for _, text := range list {
		if h, err := place.Parse(text); err == nil {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// checkHeaders says what is wrong with the headers of a call; "" is nothing.
// Those that say how the connection is used are the gateway's (RFC 9110 section
// 7.6.1), and Host would send a request past the list of hosts.
func checkHeaders(headers []event.Property) string {
	if len(headers) > maxCallHeaders {
		return fmt.Sprintf("it has %d headers, at most %d are possible", len(headers), maxCallHeaders)
	}
	size := 0
	for _, h := range headers {
		if size += len(h.Name) + len(h.Value); size > maxHeaderBytes {
			return fmt.Sprintf("its headers have more than %d bytes", maxHeaderBytes)
		}
		if !isToken(h.Name) || strings.IndexFunc(h.Value, func(c rune) bool { return c != '\t' && (c < ' ' || c == 0x7f) }) >= 0 {
			return fmt.Sprintf("its header %.40q is none", h.Name)
		}
		switch strings.ToLower(h.Name) {
		case "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade",
			"proxy-authorization":
			return fmt.Sprintf("its header %s is the gateway's own", h.Name)
		}
	}
	return ""
}

// isToken says whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
