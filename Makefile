# Go and make are all that is needed. "make run" starts a gateway that works,
# "make test" does everything that CI does.

GO       ?= go
FUZZTIME ?= 20s
PLUGINS  := $(patsubst plugins/%/plugin.toml,build/plugins/%.wasm,$(wildcard plugins/*/plugin.toml))
SOURCES  := gateway sdk-plugin plugins examples
PACKAGES ?= ./...

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: build gateway plugins run test format vet unit vectors fuzz smoke bench clean help

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

build: gateway plugins ## build the gateway and the bundled plugins

# Without cgo the program is one static file that runs in an empty container, and pure
# Go was measured to be the faster one. The race detector of the tests needs cgo.
gateway: # always asked: the Go toolchain knows what has changed
	@[ -x bin/tributary ] || echo 'building the gateway; the first time takes a minute or two'
	@CGO_ENABLED=0 $(GO) build -o bin/tributary ./gateway

plugins: gateway $(PLUGINS) ## build the bundled plugins

.PHONY: $(PLUGINS)
$(PLUGINS): build/plugins/%.wasm: gateway
	@bin/tributary plugin build plugins/$* -o $@

run: build ## build everything and start the gateway with gateway.toml
	@echo
	@echo 'Try these in other terminals:'
	@echo
	@echo '  mosquitto_sub -V 5 -t app/demo -q 1'
	@echo "  mosquitto_pub -i sensor-1 -t temperature -q 1 -m '{\"celsius\":21.5}'"
	@echo
	@exec bin/tributary run

test: format vet plugins vectors unit fuzz smoke ## everything that CI does
	@cat build/summary

format: ## check the formatting
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $(SOURCES)); \
	if [ -n "$$files" ]; then echo "not formatted; run gofmt -w on:"; echo "$$files"; exit 1; fi

vet: ## check the code, also as plugins are built
	@$(GO) vet $(PACKAGES)
	@$(GO) tool staticcheck $(PACKAGES)
	@GOOS=wasip1 GOARCH=wasm $(GO) vet ./sdk-plugin ./plugins/... ./examples/...

vectors: plugins ## run the bundled plugins' test vectors against their modules
	@for p in $(patsubst build/plugins/%.wasm,%,$(PLUGINS)); do \
		bin/tributary plugin test plugins/$$p --module build/plugins/$$p.wasm --emit 'com.acme.*' || exit 1; \
	done

# The log of all tests is in build/test.log. What is shown: a line for each
# package, what was left out and why, and everything about failures. A package that
# fails without a failed test (it does not build, or ends early) counts as one.
unit: ## run the tests with the race detector
	@mkdir -p build
	@if $(GO) test -race -timeout 20m -v $(PACKAGES) >build/test.log 2>&1; \
	then status=0; grep -E '^ok ' build/test.log; \
	else status=1; grep -vE '^ *(=== (RUN|PAUSE|CONT|NAME)|--- PASS|PASS$$)' build/test.log; \
	fi; \
	awk '/^ *--- SKIP/ { print "left out: " $$3 ":" reason } /^ +[A-Za-z0-9_]+\.go:[0-9]+:/ { reason = $$0; sub(/^[^:]*:[0-9]+:/, "", reason) }' build/test.log; \
	awk '/^ *--- PASS/ { p++ } /^ *--- FAIL/ { f++; seen = 1 } /^ *--- SKIP/ { s++ } /^FAIL\t/ && !seen { f++ } /^(ok  |FAIL)\t/ { seen = 0 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' build/test.log >build/summary; \
	[ $$status = 0 ] || { cat build/summary; exit 1; }
	@$(GO) test -count=1 -run 'TestAllocations|TestIdleMemory|TestLimits$$' ./gateway/plugin ./gateway/listener/mqtt >build/memory.log 2>&1 || { cat build/memory.log; exit 1; }
	@echo 'allocations and idle memory: checked without the race detector, which adds its own'

# When the time runs out while a worker is busy, go test -fuzz sometimes reports
# the end of its own time as a failure (golang/go#75804). A real one names its input.
fuzz: ## run each fuzz target for FUZZTIME
	@mkdir -p build
	@grep -rE --include='*_test.go' --exclude-dir=testdata '^func Fuzz[A-Za-z0-9_]*\(' $(SOURCES) | \
	sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort | while read -r dir name; do \
		echo "fuzz $$name in $$dir for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "./$$dir" >build/fuzz.log 2>&1 || \
		{ grep -q '^    context deadline exceeded$$' build/fuzz.log && ! grep -q 'Failing input' build/fuzz.log; } || \
		{ cat build/fuzz.log; exit 1; }; \
	done

smoke: ## run each benchmark once, to see that it works
	@mkdir -p build
	@$(GO) test -run '^$$' -bench . -benchtime 1x $(PACKAGES) >build/smoke.log 2>&1 || { cat build/smoke.log; exit 1; }
	@echo "benchmarks: $$(grep -c '^Benchmark' build/smoke.log) run once"

bench: ## run the benchmarks
	@$(GO) test -run '^$$' -bench . -benchmem $(PACKAGES)

clean: ## remove what was built, but no data
	@rm -rf bin build
