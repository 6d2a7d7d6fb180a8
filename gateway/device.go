package main

// devices are what "tributary device" manages.
func devices() *entries {
	return &entries{
		command: "device", noun: "device", article: "a", args: "<application> <device>", example: "plant pump-1", inArgs: "<application>",
		inExample: "plant",
		path: func(args []string) string {
			return apiPath(append([]string{"applications", args[0], "devices"}, args[1:]...)...)
		},
		settings: []setting{
			{"alias", "aliases", many, "another `name` by which it logs in; may be repeated"},
			{"gateway-for", "gatewayFor", many, "devices that it may speak for, a `pattern` with *; may be repeated"},
			{"publish", "publish", many, "topic `filter` that it may publish to; may be repeated (default #)"},
			{"subscribe", "subscribe", many, "topic `filter` that it may subscribe to; may be repeated (default #)"},
			{"message-rate", "messageRate", number, "`messages` per second; 0: any number"},
			{"byte-rate", "byteRate", bytesize, "`bytes` per second; 0: any number"},
			{"disabled", "disabled", yesNo, "refuse its connections"},
		},
		options: "--alias A0000007 --publish {device}/#",
		columns: []column{
			member("DEVICE", "name"), member("DISABLED", "disabled"), member("CREDENTIALS", "credentials"), member("ALIASES",
				"aliases"), member("GATEWAY FOR", "gatewayFor"), fromColumn(),
		},
	}
}
