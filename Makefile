# Two commands matter: `make demo` sets up and runs the flagship; `make test` sets up and runs every test.
# A second run installs and builds nothing.

CARGO  ?= cargo
BIN    := target/$(shell rustc -vV | sed -n 's/^host: //p')/release
LABCTL := $(BIN)/labctl

.PHONY: demo test engines setup build image lint bench fuzz miri deny clean help

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

# Enough for labctl. Tests build everything at once, so that nothing is built twice for another set of features.
PACKAGES := --package labctl --package lab-agent --bins
test lint bench: PACKAGES := --workspace --all-targets
test: NEEDS := test
bench: NEEDS := bench

demo: image ## set up, then bring the flagship up, probe it, and take it down
	@$(LABCTL) up topologies/ipvlan-2host.yaml; status=$$?; \
	  $(LABCTL) --quiet down topologies/ipvlan-2host.yaml; exit $$status

test: image lint ## set up, then run every test
	scripts/test

SWARMS := overlay-attachable overlay-no-swarm overlay-encrypted ingress ingress-network service-update docker-gwbridge \
	swarm-life vxlan-on-the-wire
engines: image ## what swarms do, on hosts with the other engine (Docker 20.10 of Debian bookworm)
	$(LABCTL) test --runtime vm --engine bookworm $(SWARMS:%=topologies/%.yaml)

setup: ## install the system packages that are missing
	@scripts/setup $(NEEDS)

build: setup ## labctl and its agent, as release builds
	$(CARGO) build --release --locked $(PACKAGES)

image: build ## the node image, if it is not cached yet
	$(LABCTL) image build

lint: setup ## formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets --quiet -- -D warnings

bench: image ## figures, side by side (docs/performance.md)
	$(CARGO) run --release --locked --quiet -p lab-benches

FUZZ_TIME ?= 600
fuzz: ## every fuzz target of the vxlan crate, ten minutes each (needs cargo-fuzz; FUZZ_TIME: seconds of each)
	cd vxlan && for target in stack views text template; do mkdir -p fuzz/corpus/$$target && \
	  $(CARGO) fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_TIME) -max_len=512 -timeout=10 || exit; done

miri: ## the vxlan crate's tests that need no socket, interpreted by miri (needs a nightly toolchain with miri)
	PROPTEST_CASES=2 MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test -p vxlan --lib --test packets

deny: ## licences, bans and sources of the dependencies (needs cargo-deny)
	cargo deny check bans licenses sources

clean: ## take every lab down and delete what was built
	-$(LABCTL) down --all
	$(CARGO) clean
