package main

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/config"
)

// setting is an option that sets a member of an entry of the API.
type setting struct {
	option, member string
	kind           settingKind
	usage          string
}

type settingKind int

const (
	yesNo settingKind = iota
	number
	bytesize    // "64KiB"
	duration    // "7d", sent as seconds
	many        // may be repeated; none is --option=
	momentAhead // "90d" from now, or a time; sent as a time
)

// declare adds the options, and returns the members that are set by those that
// were given.
func declare(fs *flag.FlagSet, settings []setting) func() object {
	given := object{}
	for _, s := range settings {
		fs.Var(&settingValue{setting: s, into: given}, s.option, s.usage)
	}
	return func() object { return given }
}

// settingValue is the flag.Value of a setting.
type settingValue struct {
	setting
	into object
}

func (v *settingValue) String() string   { return "" }
func (v *settingValue) IsBoolFlag() bool { return v.kind == yesNo }

func (v *settingValue) Set(text string) error {
	var value any
	var err error
	switch v.kind {
	case yesNo:
		value, err = strconv.ParseBool(text)
	case number:
		value, err = strconv.ParseInt(text, 10, 64)
	case bytesize:
		value, err = config.ParseBytes(text)
	case duration:
		var d time.Duration
		d, err = config.ParseDuration(text)
		value = int64(d / time.Second)
	case momentAhead:
		value, err = moment(text)
	case many:
		list, _ := v.into[v.member].([]string)
		if list == nil {
			list = []string{}
		}
		if text != "" {
			list = append(list, text)
		}
		value = list
	}
	if err != nil {
		return err
	}
	v.into[v.member] = value
	return nil
}

// moment reads a time, or a duration from now.
func moment(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	d, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time, such as 2027-01-01T00:00:00Z, nor a duration from now, such as 90d", text)
	}
	return time.Now().Add(d).UTC().Truncate(time.Second), nil
}

func sortedKeys(o object) []string { return slices.Sorted(maps.Keys(o)) }

// needSettings refuses a change of nothing.
func needSettings(changes object, settings []setting) error {
	if len(changes) > 0 {
		return nil
	}
	var options []string
	for _, s := range settings {
		options = append(options, "--"+s.option)
	}
	return usageError("nothing is to be changed; give some of " + strings.Join(options, ", "))
}
