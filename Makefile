# Everything a person does with this repository, by name. `make` alone lists it.

CARGO ?= cargo
PEERS = $(or $(CARGO_TARGET_DIR),target)/peers

.DEFAULT_GOAL := help
.PHONY: help needs demo test page-test api-fuzz screens page-speed crash damage lint firmware-check power-cut sim bench cross deny reference fuzz-check clean-peers

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

needs: # the compilers librdkafka and zstd are built with
	@.ci/needs

demo: needs ## run a simulated plant, the gateway and its page; DEMO_SECONDS=30 ends by itself
	$(CARGO) run --locked -p forebay -- demo

test: needs firmware-check ## run every test against real brokers, devices and consumers
	tests/setup
	$(CARGO) build --locked -p forebay
	$(CARGO) build --locked -p e2e --features fault-points --bin forebay-faulty
	$(CARGO) test --locked --workspace --no-fail-fast
	$(MAKE) page-test
	$(MAKE) api-fuzz

page-test: needs ## walk through the page in a real browser, as stories: first boot, by keyboard, on a phone, in the dark; FILE=xss for one
	tests/setup
	$(CARGO) build --locked -p forebay
	node --test --test-concurrency=2 tests/page/stories/$(or $(FILE),*).test.mjs

api-fuzz: needs ## ask the whole interface what nobody would ask, by schemathesis; EXAMPLES=100 SECONDS=1800 for more, SEED=7 for the same again
	tests/setup
	$(CARGO) build --locked -p forebay
	EXAMPLES=$(EXAMPLES) SECONDS=$(SECONDS) SEED=$(SEED) $(or $(CARGO_TARGET_DIR),target)/peers/venv/bin/python tests/interface/fuzz.py

screens: needs ## take the pictures in docs/screens anew: every screen on a phone and a desk, light and dark
	tests/setup
	$(CARGO) build --locked -p forebay
	node tests/page/screens.mjs

page-speed: needs ## measure the page: first view on a slow phone and line, and what open pages cost the gateway
	tests/setup
	$(CARGO) build --locked --release -p forebay
	FOREBAY_BIN=$(or $(CARGO_TARGET_DIR),target)/release/forebay node tests/page/speed.mjs

damage: needs ## damage every file of the buffer in every way and print what became of the records: CASES=600 SEED=1
	DAMAGE_CASES=$(or $(CASES),600) DAMAGE_SEED=$(or $(SEED),1) $(CARGO) test --locked -p forebay --lib -- --nocapture buffer::damage_table

lint: needs ## check formatting, then clippy with every warning an error
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

crash: needs ## kill real gateways between real peers until ROUNDS=1000 deaths are done; goes on where it was left
	tests/setup
	$(CARGO) build --locked -p e2e --features fault-points --bin forebay-faulty --bin crash
	$(or $(CARGO_TARGET_DIR),target)/debug/crash $(or $(ROUNDS),1000)

firmware-check: ## prove that the wire compiles for a microcontroller without an operating system
	.ci/firmware

power-cut: needs ## cut the power under the buffer: IMAGES=1000 disks as a cut would leave them, each opened and read
	POWER_CUT_IMAGES=$(or $(IMAGES),1000) $(CARGO) test --locked -p e2e --test power_cut -- --nocapture

sim: needs ## simulate gateways with random faults on a paused clock; SEEDS=5000 for more, SEED=7 for that one alone
	FOREBAY_SIM_SEEDS=$(or $(SEEDS),1000) FOREBAY_SIM_SEED=$(SEED) \
		$(CARGO) test --locked --release -p forebay --lib simulation -- --nocapture

bench: needs ## measure speed and memory, each as a ratio
	$(CARGO) bench --locked -p forebay -p e2e --bench '*'

cross: ## build the ARM binaries and run each under emulation
	cross/build

deny: ## check licences, advisories, duplicates and origins of dependencies; offline: DENY="licenses bans sources"
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --workspace check $(DENY)

reference: needs ## write docs/configuration.md anew from the types
	@mkdir -p docs
	$(CARGO) run --quiet --locked -p forebay -- reference > docs/configuration.md.new
	@mv docs/configuration.md.new docs/configuration.md

fuzz-check: ## compile the fuzz targets; needs a nightly compiler and cargo-fuzz to run them
	$(CARGO) check --locked --manifest-path firmware-protocols/fuzz/Cargo.toml
	$(CARGO) check --locked --manifest-path gateway/fuzz/Cargo.toml

clean-peers: ## remove what the tests fetched: Kafka, the Python environment
	rm -rf $(PEERS)
