package main

// users are what "tributary user" manages.
func users() *entries {
	return &entries{
		command: "user", noun: "user", article: "a", args: "<user>", example: "alice",
		path: func(args []string) string { return apiPath(append([]string{"users"}, args...)...) },
		settings: []setting{
			{"read", "read", many, "`application` whose log it may read; * at the end: any rest; may be repeated"},
			{"write", "write", many, "`application` whose devices it may command; may be repeated"},
			{"disabled", "disabled", yesNo, "refuse its connections"},
		},
		options: "--read plant",
		columns: []column{
			member("USER", "name"), member("DISABLED", "disabled"), member("READ", "read"), member("WRITE", "write"), member("CREDENTIALS",
				"credentials"), fromColumn(),
		},
	}
}
