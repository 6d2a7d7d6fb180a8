package access

import "strings"

// Placeholders are the values of {application}, {device}, {clientid} and {username} in topic
// filters.
type Placeholders struct {
	Application, Device, ClientID, Username string
}

// Fill replaces the placeholders of topic filters by their values. It leaves out a filter if
// one of its values is empty or contains +, # or /, so that a name never widens a right. If
// no filter has placeholders, it returns the given slice itself.
func (p *Placeholders) Fill(filters []string) []string {
	needed := false
	for _, f := range filters {
		needed = needed || strings.Contains(f, "{")
	}
	if !needed {
		return filters
	}
	out := make([]string, 0, len(filters))
	for _, f := range filters {
		if filled, ok := p.fill(f); ok {
			out = append(out, filled)
		}
	}
	return out
}

func (p *Placeholders) fill(filter string) (string, bool) {
	var b strings.Builder
	for rest := filter; ; {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		name, behind, closed := strings.Cut(after, "}")
		value, known := p.value(name)
		switch {
		case !closed || !known: // an ordinary brace
			b.WriteByte('{')
			rest = after
			continue
		case value == "" || strings.ContainsAny(value, "+#/\x00"):
			return "", false
		}
		b.WriteString(value)
		rest = behind
	}
}

func (p *Placeholders) value(name string) (string, bool) {
	switch name {
	case "application":
		return p.Application, true
	case "device":
		return p.Device, true
	case "clientid":
		return p.ClientID, true
	case "username":
		return p.Username, true
	}
	return "", false
}
