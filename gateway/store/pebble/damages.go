package pebble

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// damages are the files of the store known to be damaged. Their lock comes last.
type damages struct {
	mu    sync.Mutex
	files map[string]bool // their paths
}

// add returns whether the file was not known yet.
func (d *damages) add(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[path] {
		return false
	}
	if d.files == nil {
		d.files = map[string]bool{}
	}
	d.files[path] = true
	return true
}

func (d *damages) has(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[path]
}

// prune forgets tables that are not in use any more, such as those that retention has
// removed whole.
func (d *damages) prune(inUse map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.files, func(path string, _ bool) bool { return strings.HasSuffix(path, ".sst") && !inUse[path] })
}

// list returns the paths in order.
func (d *damages) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files))
}
