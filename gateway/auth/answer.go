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

// answer is what a service says to a connection or topic.
type answer struct {
	Result     string            `json:"result"` // allow, deny or ignore
	Superuser  bool              `json:"is_superuser"`
	Attributes map[string]string `json:"client_attrs"` // "application" and "device" are used
	ExpireAt   float64           `json:"expire_at"`    // seconds since 1970
	ACL        []aclRule         `json:"acl"`

	expires            time.Time
	rules              bool // ACL was there, and became these
	publish, subscribe []string
}

// aclRule is one rule of a list in which the first that fits decides.
type aclRule struct {
	Permission string          `json:"permission"` // allow or deny
	Action     string          `json:"action"`     // publish, subscribe or all
	Topic      string          `json:"topic"`
	QoS        json.RawMessage `json:"qos"`
	Retain     json.RawMessage `json:"retain"`
}

// parseAnswer reads an answer whose status said success. An empty one is an
// allowance, as services of EMQX 4 and NanoMQ give it.
func parseAnswer(content []byte) (*answer, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return &answer{Result: "allow"}, nil
	}
	var a answer
	if err := json.Unmarshal(content, &a); err != nil { // whose text may show the answer
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

// readRules makes lists of allowed filters of the rules. What lists cannot say is
// left out of them, so that they never allow more: an allowance that overlaps a
// denial before it, one for certain QoS levels only, and one for a filter taken
// literally.
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

// overlaps reports whether a topic may match both a filter and one of a list. A level with
// a placeholder counts as +, since its value is not known yet.
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
