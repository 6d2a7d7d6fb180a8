package topic

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// wish is a subscription in a tree.
type wish struct{ subscriber, number int }

func (w *wish) SameSubscriber(other *wish) bool { return w.subscriber == other.subscriber }

// place is where a tree has a wish: of each there is one.
type place struct {
	filter, share string
	subscriber    int
}

// nameOf draws a topic name of up to four levels.
func nameOf(t *rapid.T) string {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x"})
	name := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "name"), "/")
	return name + map[bool]string{true: "a"}[name == ""]
}

// A tree of filters finds what Match finds in a list, and keeps nothing that was deleted.
func TestFilterTreeAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree FilterTree[*wish]
		list := map[place]*wish{}
		at := func(t *rapid.T) place {
			share := rapid.SampledFrom([]string{"", "g", "h"})
			return place{filterOf(t, "filter"), share.Draw(t, "share"), rapid.IntRange(0, 2).Draw(t, "subscriber")}
		}
		number := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				p := at(t)
				number++
				w := &wish{p.subscriber, number}
				if old, replaced := tree.Put(p.filter, p.share, w); old != list[p] || replaced != (old != nil) {
					t.Fatalf("%+v replaces %v, %v, want %v", p, old, replaced, list[p])
				}
				list[p] = w
			},
			"delete": func(t *rapid.T) {
				p := at(t)
				if len(list) > 0 && rapid.Bool().Draw(t, "of a list") {
					places := slices.SortedFunc(maps.Keys(list), func(a, b place) int { return list[a].number - list[b].number })
					p = rapid.SampledFrom(places).Draw(t, "place")
				}
				tree.Delete(p.filter, p.share, &wish{subscriber: p.subscriber})
				delete(list, p)
			},
			"": func(t *rapid.T) {
				if tree.Len() != len(list) {
					t.Fatalf("Len is %d, want %d", tree.Len(), len(list))
				}
				compare(t, &tree, list, nameOf(t))
			},
		})
		for p := range list {
			tree.Delete(p.filter, p.share, &wish{subscriber: p.subscriber})
		}
		if len(tree.root.children) != 0 || tree.Len() != 0 {
			t.Fatal("something was left over")
		}
	})
}

func compare(t *rapid.T, tree *FilterTree[*wish], list map[place]*wish, name string) {
	var want, wantShared []*wish
	filters, shares := map[string]bool{}, map[place]bool{}
	for p, w := range list {
		switch {
		case !Match(p.filter, name):
		case p.share == "":
			want = append(want, w)
			filters[p.filter] = true
		default:
			wantShared = append(wantShared, w)
			shares[place{p.filter, p.share, 0}] = true
		}
		if p.share != "" && !slices.Contains(tree.Share(p.filter, p.share).Members(), w) {
			t.Fatalf("%+v is not in its share", p)
		}
	}
	m := Matches[*wish]{}
	tree.Match(name, &m)
	var shared []*wish
	for _, s := range m.Shares {
		shared = append(shared, s.Members()...)
	}
	same := func(a, b []*wish) bool {
		by := func(a, b *wish) int { return a.number - b.number }
		return slices.Equal(slices.SortedFunc(slices.Values(a), by), slices.SortedFunc(slices.Values(b), by))
	}
	if !same(m.Subscriptions, want) || !same(shared, wantShared) || m.Filters != len(filters) || len(m.Shares) != len(shares) {
		t.Fatalf("%q finds %d of %d filters, %d of %d shares, want %d of %d, %d of %d", name, len(m.Subscriptions), m.Filters, len(shared),
			len(m.Shares), len(want), len(filters), len(wantShared), len(shares))
	}
}

// Every member of a share has its turn.
func TestNextTurn(t *testing.T) {
	var tree FilterTree[*wish]
	for i := range 3 {
		tree.Put("a", "g", &wish{subscriber: i})
	}
	share := tree.Share("a", "g")
	share.turn.Store(1<<32 - 2) // before it begins anew
	var turns [3]int
	for range 30 {
		turns[share.NextTurn()]++
	}
	if min(turns[0], turns[1], turns[2]) < 9 {
		t.Errorf("%v", turns)
	}
	for _, at := range [][2]string{{"a", "h"}, {"a/b", "g"}, {"b", "g"}} {
		if tree.Share(at[0], at[1]) != nil {
			t.Errorf("%v is a share", at)
		}
	}
}

// A tree of names finds what Match finds in a list, and counts its levels.
func TestNameTreeAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree NameTree[int]
		list := map[string]int{}
		levels := func() map[string]bool {
			all := map[string]bool{}
			for name := range list {
				for i := range name + "/" {
					if (name + "/")[i] == '/' {
						all[(name + "/")[:i]] = true
					}
				}
			}
			return all
		}
		number := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				name, before := nameOf(t), len(levels())
				number++
				old, missing := tree.Find(name)
				if old != list[name] || tree.Get(name) != old {
					t.Fatalf("%q is %d, want %d", name, old, list[name])
				}
				tree.Put(name, number)
				list[name] = number
				if added := len(levels()) - before; added != missing {
					t.Fatalf("%q lacks %d levels, want %d", name, missing, added)
				}
			},
			"delete": func(t *rapid.T) {
				name, before := nameOf(t), len(levels())
				gone := tree.Delete(name)
				delete(list, name)
				if want := before - len(levels()); gone != want {
					t.Fatalf("with %q went %d levels, want %d", name, gone, want)
				}
			},
			"": func(t *rapid.T) {
				filter := filterOf(t, "filter")
				var got, want, all []int
				tree.Match(filter, func(n int) { got = append(got, n) })
				tree.Each(func(n int) { all = append(all, n) })
				for name, n := range list {
					if Match(filter, name) {
						want = append(want, n)
					}
				}
				slices.Sort(want)
				slices.Sort(got)
				slices.Sort(all)
				if !slices.Equal(got, want) || !slices.Equal(all, slices.Sorted(maps.Values(list))) || tree.Len() != len(list) {
					t.Fatalf("%q finds %v of %v, want %v", filter, got, all, want)
				}
			},
		})
		for name := range list {
			tree.Delete(name)
		}
		if len(tree.root.children) != 0 || tree.Len() != 0 {
			t.Fatal("something was left over")
		}
	})
}
