package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// convert turns what stands in a source into a value of the leaf's type, or
// says what is expected. text says that the source knows only text: the
// environment and the command line.
func (n *node) convert(key string, v any, text bool) (any, error) {
	if s, ok := v.(string); ok && text {
		return n.parse(key, s)
	}
	switch {
	case n.typ == durationType:
		if s, ok := v.(string); ok {
			return parseDuration(s)
		}
		return nil, fmt.Errorf(`is %s; it must be a duration in quotes, such as "10s", "5m" or "7d"`, show(v))
	case isInteger(n.typ):
		switch v := v.(type) {
		case int64:
			return fit(n.typ, v)
		case string:
			if isSize(key) {
				return parseSize(n.typ, v)
			}
		}
		return nil, fmt.Errorf("is %s; it must be a whole number%s", show(v), orSize(key))
	case n.typ.Kind() == reflect.Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("is %s; it must be true or false", show(v))
	case n.typ.Kind() == reflect.String:
		if s, ok := v.(string); ok {
			return s, nil
		}
		return nil, fmt.Errorf("is %s; it must be text in quotes", show(v))
	case n.typ == reflect.TypeFor[[]string]():
		return texts(v)
	}
	return nil, fmt.Errorf("has the type %v, which settings cannot have", n.typ)
}

// parse reads text of the environment or the command line.
func (n *node) parse(key, s string) (any, error) {
	switch {
	case n.typ == durationType:
		return parseDuration(s)
	case isInteger(n.typ):
		i, err := strconv.ParseInt(s, 10, 64)
		switch {
		case err == nil:
			return fit(n.typ, i)
		case isSize(key) && !errors.Is(err, strconv.ErrRange):
			return parseSize(n.typ, s)
		}
		return nil, fmt.Errorf("is %q; it must be a whole number%s", s, orSize(key))
	case n.typ.Kind() == reflect.Bool:
		if s == "true" || s == "false" {
			return s == "true", nil
		}
		return nil, fmt.Errorf("is %q; it must be true or false", s)
	case n.typ == reflect.TypeFor[[]string]():
		if strings.HasPrefix(s, "[") {
			m, err := parseTOML([]byte("list = " + s))
			if err != nil {
				return nil, fmt.Errorf(`is %q; it must be a list such as a,b or ["a", "b"]`, s)
			}
			return texts(m["list"])
		}
		if s == "" {
			return []string{}, nil
		}
		return strings.Split(s, ","), nil
	}
	return n.convert(key, s, false)
}

func texts(v any) (any, error) {
	list, ok := v.([]any)
	out := make([]string, 0, len(list))
	for _, item := range list {
		s, isText := item.(string)
		ok = ok && isText
		out = append(out, s)
	}
	if !ok {
		return nil, fmt.Errorf(`is %s; it must be a list of texts, such as ["a", "b"]`, show(v))
	}
	return out, nil
}

func isInteger(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 }

// fit returns i as the type's own kind, when it is in its range.
func fit(t reflect.Type, i int64) (any, error) {
	v := reflect.New(t).Elem()
	if v.CanInt() && !v.OverflowInt(i) {
		v.SetInt(i)
		return v.Interface(), nil
	}
	if v.CanUint() && i >= 0 && !v.OverflowUint(uint64(i)) {
		v.SetUint(uint64(i))
		return v.Interface(), nil
	}
	return nil, fmt.Errorf("is %d; that is out of range", i)
}

// parseDuration reads Go's durations and whole days, such as "7d".
func parseDuration(s string) (any, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, fmt.Errorf(`is %q; it must be a duration, such as "10s", "5m" or "7d"`, s)
	}
	return d, nil
}

// isSize says whether a key counts bytes, by its name.
func isSize(key string) bool {
	return strings.Contains(key[strings.LastIndexByte(key, '.')+1:], "bytes")
}

func orSize(key string) string {
	if isSize(key) {
		return ` or a size in quotes, such as "64KiB" or "1GiB"`
	}
	return ""
}

// parseSize reads a number of bytes, such as "64MiB" or "10MB".
func parseSize(t reflect.Type, s string) (any, error) {
	number := strings.TrimRight(s, "BKMGTik")
	factor, ok := map[string]uint64{
		"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[s[len(number):]]
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	if !ok || err != nil || n > math.MaxInt64/factor {
		return nil, fmt.Errorf(`is %q; it must be a number of bytes with B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, such as "64KiB"`, s)
	}
	return fit(t, int64(n*factor))
}

// show writes a value of a file as the user wrote it, roughly.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case map[string]any:
		return "a table"
	case []any:
		return "a list"
	}
	return fmt.Sprint(v)
}

// ParseDuration reads a duration as the settings take it, such as "10s" or "7d".
func ParseDuration(s string) (time.Duration, error) {
	v, err := parseDuration(s)
	d, _ := v.(time.Duration)
	return d, err
}

// ParseBytes reads a number of bytes as the settings take it, such as "64KiB" or
// "4096".
func ParseBytes(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	v, err := parseSize(reflect.TypeFor[int64](), s)
	n, _ := v.(int64)
	return n, err
}
