package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tributary.io/gateway/topic"
)

// answer is the response of a service about a connection or a topic.
type answer struct {
	Result     string            `json:"result"` // allow, deny or ignore
	Superuser  bool              `json:"is_superuser"`
	Attributes map[string]string `json:"client_attrs"` // "application" and "device" are used
	ExpireAt   float64           `json:"expire_at"`    // seconds since 1970-01-01 UTC
	ACL        []aclRule         `json:"acl"`

	expires            time.Time
	rules              bool // ACL was present, and became publish and subscribe
	publish, subscribe []string
}

// aclRule is one rule of a list in which the first matching rule decides.
type aclRule struct {
	Permission string          `json:"permission"` // allow or deny
	Action     string          `json:"action"`     // publish, subscribe or all
	Topic      string          `json:"topic"`
	QoS        json.RawMessage `json:"qos"`
	Retain     json.RawMessage `json:"retain"`
}

// parseAnswer parses the body of a response with a status of success. An empty body allows,
// as services for EMQX 4 and NanoMQ expect.
func parseAnswer(content []byte) (*answer, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return &answer{Result: "allow"}, nil
	}
	var a answer
	if err := json.Unmarshal(content, &a); err != nil { // err is dropped: its text may quote the answer
		return nil, errors.New("the answer is not the JSON object that is expected")
	}
	if a.Result != "allow" && a.Result != "deny" && a.Result != "ignore" {
		return nil, errors.New(`the answer's "result" is not allow, deny or ignore`)
	}
	if a.ExpireAt != 0 {
		if a.ExpireAt < 0 || a.ExpireAt > 1<<40 {
			return nil, errors.New(`the answer's "expire_at" is no time`)
		}
		a.expires = time.Unix(int64(a.ExpireAt), 0)
	}
	if a.ACL != nil {
		if err := a.readRules(); err != nil {
			return nil, err
		}
	}
	return &a, nil
}

// readRules turns the rules into lists of allowed filters. It leaves out what such lists
// cannot express, so that they never allow more than the rules: a rule that overlaps an
// earlier denial, one for certain QoS levels only, and one with a literal filter ("eq a/+").
func (a *answer) readRules() error {
	a.rules = true
	var deniedP, deniedS []string
	for i, r := range a.ACL {
		filter, literal := strings.CutPrefix(r.Topic, "eq ")
		filter = strings.NewReplacer("${clientid}", "{clientid}", "${username}", "{username}").Replace(filter)
		if filter == "" || r.Permission != "allow" && r.Permission != "deny" {
			return fmt.Errorf("rule %d of the answer's acl is none", i+1)
		}
		limited := r.QoS != nil || r.Retain != nil || literal && strings.ContainsAny(filter, "+#")
		into := func(allowed, denied *[]string) {
			switch {
			case r.Permission == "deny":
				*denied = append(*denied, filter)
			case !limited && !overlaps(*denied, filter):
				*allowed = append(*allowed, filter)
			}
		}
		switch r.Action {
		case "publish", "pub":
			into(&a.publish, &deniedP)
		case "subscribe", "sub":
			into(&a.subscribe, &deniedS)
		case "all", "pubsub", "":
			into(&a.publish, &deniedP)
			into(&a.subscribe, &deniedS)
		default:
			return fmt.Errorf("rule %d of the answer's acl has no action", i+1)
		}
	}
	return nil
}

// overlaps reports whether a topic may match both filter and one of list. A level with a
// placeholder counts as +, since its value is not known yet.
func overlaps(list []string, filter string) bool {
	filter = placeholdersToWildcards(filter)
	return slices.ContainsFunc(list, func(other string) bool { return topic.Overlaps(placeholdersToWildcards(other), filter) })
}

func placeholdersToWildcards(filter string) string {
	if !strings.Contains(filter, "{") {
		return filter
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "{") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}
