package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
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
		topic, literal := strings.CutPrefix(r.Topic, "eq ")
		topic = strings.NewReplacer("${clientid}", "{clientid}", "${username}", "{username}").Replace(topic)
		if topic == "" || r.Permission != "allow" && r.Permission != "deny" {
			return fmt.Errorf("rule %d of the answer's acl is none", i+1)
		}
		limited := r.QoS != nil || r.Retain != nil || literal && strings.ContainsAny(topic, "+#")
		into := func(allowed, denied *[]string) {
			switch {
			case r.Permission == "deny":
				*denied = append(*denied, topic)
			case !limited && !overlaps(*denied, topic):
				*allowed = append(*allowed, topic)
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

// overlaps says whether a topic may match both a filter and one of a list. A level
// with a placeholder may be anything.
func overlaps(list []string, filter string) bool {
	for _, other := range list {
		if meet(strings.Split(other, "/"), strings.Split(filter, "/")) {
			return true
		}
	}
	return false
}

func meet(a, b []string) bool {
	for {
		switch {
		case len(a) == 0 && len(b) == 0:
			return true
		case len(a) > 0 && a[0] == "#" || len(b) > 0 && b[0] == "#":
			return true
		case len(a) == 0 || len(b) == 0:
			return false
		case a[0] != b[0] && a[0] != "+" && b[0] != "+" && !strings.Contains(a[0], "{") && !strings.Contains(b[0], "{"):
			return false
		}
		a, b = a[1:], b[1:]
	}
}
