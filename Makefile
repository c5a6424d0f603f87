# Three commands matter: `make demo` sets up and runs the flagship; `make check` is for the daily loop; `make test` sets
# up and runs the tests. A second run installs and builds nothing.

CARGO   ?= cargo
# `quick` builds in the least time, for demo and tests; `release` is what users get (docs/performance.md).
PROFILE := quick
BIN     = target/$(shell rustc -vV | sed -n 's/^host: //p')/$(PROFILE)
LABCTL  = $(BIN)/labctl

.PHONY: demo check test test-all engines vagrant truth mutations setup build image deb dist test-packages bench fuzz miri deny clean help
.NOTPARALLEL:

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

# labctl and its agent.
PACKAGES := --package labctl --bins
bench: PACKAGES += --package labctl-benches
bench deb dist test-packages: PROFILE := release
check test test-all mutations: NEEDS := test
bench: NEEDS := bench

demo: image ## set up, then bring the flagship up and probe it
	@$(LABCTL) up --replace topologies/ipvlan-2host.yaml; status=$$?; \
	  echo "next: export PATH=\"$(abspath $(BIN)):\$$PATH\"; labctl probe ipvlan-2host host1 c1-1; labctl down ipvlan-2host"; \
	  exit $$status

check: setup ## formatting, lint and the tests that need no lab
	@scripts/test check

test: setup ## set up, then run the tests: what CI runs
	@scripts/test

test-all: setup ## the same with every topology, engine, lesson and runtime, and make truth: before a release
	@scripts/test all

engines: build ## every topology on every engine, and a table of which cells differ between engines
	@scripts/test engines

vagrant: NEEDS := vagrant
vagrant: setup ## labs on machines that Vagrant makes, the seat, and vagrant/hosts, beside a libvirtd of their own (as root)
	@scripts/test vagrant

# Random labs that `make truth` runs, from this seed on.
LABS ?= 50
SEED ?= 1
truth: image ## is each host, restored or in a container, as it is when booted? Is what the oracle predicts of random labs true?
	$(CARGO) test --profile $(PROFILE) --locked -p labctl-tests --test labs truth:: -- --ignored --nocapture
	$(CARGO) run --profile $(PROFILE) --locked -p labctl-fuzz -- --seed $(SEED) --labs $(LABS)

mutations: setup ## break the oracle on purpose in many places: does a test notice each? (10 minutes)
	@scripts/mutations

setup: ## install the system packages that are missing
	@scripts/setup $(NEEDS)

build: setup ## labctl and its agent
	$(CARGO) build --profile $(PROFILE) --locked $(PACKAGES)

image: build ## the node image, if it is not cached yet
	$(LABCTL) image build

# The program that makes .deb files. Without its own compressor: xz does it.
CARGO_DEB_VERSION := 3.8.0
CARGO_DEB := target/tools/cargo-deb-$(CARGO_DEB_VERSION)/bin/cargo-deb
$(CARGO_DEB):
	$(CARGO) install --locked --quiet --no-default-features --root $(CARGO_DEB:/bin/cargo-deb=) \
	  cargo-deb@$(CARGO_DEB_VERSION)

deb: build $(CARGO_DEB) ## a package for Debian and Ubuntu, in target/dist
	@scripts/package deb $(CARGO_DEB)

dist: build ## a tarball of static binaries with an install script that needs no root, in target/dist
	@scripts/package tar

test-packages: deb dist image ## install both in a clean Debian, and bring a lab up from each (as root)
	@scripts/test-packages

bench: image ## figures, side by side (docs/performance.md)
	$(BIN)/labctl-benches

FUZZ_CASES ?= 20000
FUZZ_TIME ?= 600
fuzz: export PROPTEST_CASES := $(FUZZ_CASES)
fuzz: export PROPTEST_RNG_SEED := $(or $(PROPTEST_RNG_SEED),$(strip $(shell od -An -N4 -tu4 /dev/urandom)))
fuzz: ## random tests with a new seed and FUZZ_CASES cases, then each fuzz target for FUZZ_TIME seconds (needs cargo-fuzz)
	@echo "PROPTEST_RNG_SEED=$$PROPTEST_RNG_SEED"
	$(CARGO) nextest run --cargo-profile $(PROFILE) --locked --profile fuzz --package labctl-vxlan --package labctl-topology --package labctl-wire || { \
	  echo "found with PROPTEST_RNG_SEED=$$PROPTEST_RNG_SEED; git status shows the kept case: commit it, and its input as a test"; \
	  exit 1; }
	cd vxlan && for target in stack views text template; do mkdir -p fuzz/corpus/$$target && \
	  $(CARGO) fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_TIME) -max_len=512 -timeout=10 || exit; done

miri: ## the vxlan crate's tests that need no socket, interpreted by miri (needs a nightly toolchain with miri)
	PROPTEST_CASES=2 MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test -p labctl-vxlan --lib --test packets

deny: ## licences, bans and sources of the dependencies (needs cargo-deny)
	cargo deny check bans licenses sources

clean: ## take every lab down and delete what was built
	-$(LABCTL) down --all
	$(CARGO) clean
