package place

import "testing"

func TestHost(t *testing.T) {
	for _, bad := range []string{
		"", "example.com", "ftp://example.com", "https://", "https://a/b", "https://a/", "https://a?", "https://a?b", "https://a#", "https://u@a",
		"https://a*", "https://*a", "https://*.*", "https://a.*", "https://*.", "https://a:b", "//a", "https:a", "https://**",
	} {
		if h, err := Parse(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, h)
		}
	}
	for _, c := range []struct {
		host, url string
		allowed   bool
	}{
		{"https://a.example", "https://a.example/path?query#fragment", true},
		{"https://A.example", "https://a.EXAMPLE", true},
		{"https://a.example", "https://a.example:443/", true},
		{"https://a.example:443", "https://a.example/", true},
		{"http://a.example:8080", "http://a.example:8080/", true},
		{"https://a.example", "http://a.example/", false},
		{"https://a.example", "https://a.example:8443/", false},
		{"https://a.example", "https://b.a.example/", false},
		{"https://a.example", "https://a.example.b/", false},
		{"https://a.example", "https://a.example./", false},
		{"https://*.example", "https://a.example/", true},
		{"https://*.example", "https://b.a.example/", true},
		{"https://*.example", "https://example/", false},
		{"https://*.example", "https://aexample/", false},
		{"https://*", "https://anything/", true},
		{"https://*", "http://anything/", false},
		{"https://*", "https://anything:1/", false},
		{"http://10.0.0.1", "http://10.0.0.1/", true},
		{"http://10.0.0.1", "http://10.0.0.2/", false},
		{"http://[::1]:80", "http://[::1]/", true},
	} {
		h, err := Parse(c.host)
		if err != nil {
			t.Fatal(err)
		}
		if _, allowed, err := CheckURL(c.url, []Host{h}); err != nil || allowed != c.allowed {
			t.Errorf("%s for %s: %v %v", c.host, c.url, allowed, err)
		}
	}
	for _, bad := range []string{"", "a", "/a", "https:///a", "https:a", "https://u:p@a/", "file:///etc/passwd", "gopher://a/", "https://*/",
		"https://a b/", "http://[::1/", "javascript:x"} {
		if _, allowed, err := CheckURL(bad, []Host{{"https", "*", "443"}, {"http", "*", "80"}}); err == nil {
			t.Errorf("%q is a URL, allowed %v", bad, allowed)
		}
	}
}

func TestHostCovers(t *testing.T) {
	for _, c := range []struct {
		have, want string
		covers     bool
	}{
		{"https://*", "https://*", true}, {"https://*", "https://*.a", true}, {"https://*", "https://a", true},
		{"https://*.a", "https://*", false}, {"https://*.a", "https://*.b.a", true}, {"https://*.a", "https://b.a", true},
		{"https://*.a", "https://a", false}, {"https://*.b.a", "https://*.a", false}, {"https://a", "https://*.a", false},
		{"https://a", "https://a", true}, {"https://a", "http://a", false}, {"https://a", "https://a:1", false},
	} {
		have, err := Parse(c.have)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Parse(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if have.Covers(want) != c.covers {
			t.Errorf("%s covers %s: %v", c.have, c.want, !c.covers)
		}
	}
}
