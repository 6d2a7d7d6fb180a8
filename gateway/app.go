package main

// applications are what "tributary app" manages.
func applications() *entries {
	return &entries{
		command: "app", noun: "application", article: "an", args: "<application>", example: "plant",
		path: func(args []string) string { return apiPath(append([]string{"applications"}, args...)...) },
		settings: []setting{
			{"anonymous", "anonymous", yesNo, "let programs on the gateway's machine in without credentials"},
			{"messaging", "messaging", yesNo, "devices get what others publish"},
			{"retention-age", "retentionSeconds", duration, "`age` at which events leave the log; 0s: never"},
			{"retention-bytes", "retentionBytes", bytesize, "`size` at which the oldest events leave the log; 0: never"},
			{"message-rate", "messageRate", number, "`messages` per second of all devices; 0: any number"},
			{"byte-rate", "byteRate", bytesize, "`bytes` per second of all devices; 0: any number"},
		},
		options: "--retention-age 30d --messaging",
		columns: []column{
			member("APPLICATION", "name"), member("DEVICES", "devices"), member("ANONYMOUS", "anonymous"), member("MESSAGING", "messaging"),
			{"RETENTION", func(e object) string { return days(e["retentionSeconds"]) }},
			{"BYTES", func(e object) string { return size(e["retentionBytes"]) }}, fromColumn(),
		},
	}
}
