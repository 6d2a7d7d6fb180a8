package config

import "testing"

// What the command line reads of the environment to find a gateway is no setting.
func TestVariablesOfTheClient(t *testing.T) {
	if _, err := Load(Sources{Env: []string{"TRIBUTARY_URL=http://127.0.0.1:8080", "TRIBUTARY_TOKEN=tra_x",
		"TRIBUTARY_TOKEN_FILE=x"}}); err != nil {
		t.Error(err)
	}
	if _, err := Load(Sources{Env: []string{"TRIBUTARY_TOKENS=x"}}); err == nil {
		t.Error("an unknown variable is accepted")
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{"7": 7, "64KiB": 65536, "x": -1, "": -1} {
		if n, err := ParseBytes(text); (err == nil) != (want >= 0) || err == nil && n != want {
			t.Errorf("ParseBytes(%q) = %d, %v", text, n, err)
		}
	}
	if d, err := ParseDuration("7d"); err != nil || d.Hours() != 168 {
		t.Errorf("7d is %v, %v", d, err)
	}
	if _, err := ParseDuration("7"); err == nil {
		t.Error("7 is a duration")
	}
}
