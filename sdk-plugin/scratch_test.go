package sdk

import (
	"bytes"
	"fmt"
	"testing"

	"tributary.io/sdk-plugin/codec"
)

// What a handler has from Scratch, Join, Parse and State stays as it is until it
// returns, however much of it there is.
func TestScratch(t *testing.T) {
	state := map[string][]byte{}
	for i := range 40 {
		state[fmt.Sprint("k", i)] = bytes.Repeat([]byte{byte('a' + i%26)}, 100*i)
	}
	r := Request{host: newFake(state)}
	request := codec.AppendRequest(nil, &published, published.Event.Time, []byte(`{"s":1}`))
	handler := func(r *Request) error {
		var kept []func() error
		for i := range 40 {
			number := fmt.Sprint(i)
			key := r.Join("k", number)
			value, _ := r.State(key)
			b := append(r.Scratch(10*i), bytes.Repeat([]byte{byte(i)}, 10*i)...)
			if cap(b) != 10*i {
				t.Errorf("Scratch(%d) has room for %d", 10*i, cap(b))
			}
			doc := r.Parse([]byte(`{"n":` + number + `}`))
			kept = append(kept, func() error {
				n, _ := doc.Get("n").Int()
				if key != "k"+number || !bytes.Equal(value, state[key]) || !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, 10*i)) || n != int64(i) {
					return fmt.Errorf("%d: key %q, %d bytes of state, %d of scratch, n is %d", i, key, len(value), len(b), n)
				}
				return nil
			})
		}
		if n, _ := r.Config("s").Int(); n != 1 {
			t.Error("Config after many documents")
		}
		for _, check := range kept {
			if err := check(); err != nil {
				return err
			}
		}
		return nil
	}
	for range 3 {
		response, err := r.serve(handler, request)
		if err != nil {
			t.Fatal(err)
		}
		if result, err := codec.ParseResponse(response); err != nil || result.Failure != nil {
			t.Fatal(err, result.Failure)
		}
	}
}
