# What a developer calls, and what CI calls. `make help` lists the targets.
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help demo test lint bench gate release packages docs prove differential soak fuzz miri setup

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Pingora compiles zlib-ng from C: cmake and a C compiler, whether or not TLS is used.
setup: ## Install what the build and the tests need, or say what to install
	@missing=; \
	command -v cmake >/dev/null || missing="$$missing cmake"; \
	command -v make >/dev/null || missing="$$missing make"; \
	command -v cc >/dev/null || missing="$$missing gcc g++"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && apt-get install -qy $$missing; \
	  else \
	    echo "Please install:$$missing (Pingora compiles zlib-ng with them), then try again." >&2; exit 1; \
	  fi; \
	fi
	@command -v $(CARGO) >/dev/null || { echo "Please install Rust 1.89 or later: https://rustup.rs" >&2; exit 1; }

# What it shows needs no optimiser: it is built in half of the release's time.
demo: setup ## Roll a demo app twice under load, and count what was lost
	$(CARGO) run --profile demo -- demo

test: setup ## Run all tests; those that need Node are skipped, aloud, without it
	tests/setup.sh
	$(CARGO) test --no-fail-fast
	$(CARGO) test --manifest-path tests/loom/Cargo.toml

lint: setup ## Check format, lints, documentation and what is built from
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
	$(CARGO) check --manifest-path fuzz/codec/Cargo.toml
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) fetch -q --locked && cargo-deny --offline check licenses bans sources; \
	else \
	  echo "skipped: licences, bans and sources (needs cargo-deny: cargo install --locked cargo-deny)" >&2; \
	fi

# What can't be installed is skipped, aloud. All of it takes an hour; `benches/run --quick` a minute.
bench: setup ## Measure lameduck beside nginx, HAProxy, Envoy, Caddy and a bare Pingora
	benches/setup.sh
	$(CARGO) build --release --locked
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-$(CURDIR)/target} \
	  $(CARGO) build --release --locked --manifest-path benches/peers/crate/Cargo.toml
	benches/run --binary $${CARGO_TARGET_DIR:-target}/release/lameduck

gate: setup ## Count instructions per request; fails when they grew by more than 3 %
	benches/setup.sh python3 valgrind h2load
	python3 -B -m unittest discover -s benches/peers
	$(CARGO) build --profile gate --locked
	benches/run gate --binary $${CARGO_TARGET_DIR:-target}/gate/lameduck

release: setup ## Build the optimised binary
	$(CARGO) build --release --locked
	@echo "target/release/lameduck"

# Two builds: a dynamic one for the packages, since names are looked up as the host does it, and a static one for the image.
# The names of this machine's directories stay out of both.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR = $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
packages: setup ## Make .deb, .rpm, archive, image, Helm chart, SBOM and checksums in target/packages/
	rm -rf target/packages
	deploy/packages/compile --release --locked
	deploy/packages/compile --static --release --locked
	deploy/packages/build --binary $(TARGET_DIR)/packaged/release/lameduck \
	  --image-binary $(TARGET_DIR)/packaged/$(HOST)/release/lameduck

docs: ## Build the documentation as a book in target/book/
	command -v mdbook >/dev/null || tests/setup.sh book
	docs/book/build

prove: setup ## Run the end-to-end tests at full length; figures go to target/prove/
	LAMEDUCK_PROVE=1 tests/setup.sh
	rm -rf target/prove
	LAMEDUCK_PROVE=1 $(CARGO) test --release --test plane races -- --test-threads 2
	LAMEDUCK_PROVE=1 $(CARGO) test --release --test clients -- --test-threads 2
	LAMEDUCK_PROVE=1 $(CARGO) test --release --test packages -- --test-threads 2
	LAMEDUCK_PROVE=1 $(CARGO) test --release --test e2e -- --test-threads 1
	@cat target/prove/results.md target/prove/races.md

# LAMEDUCK_SEED=N for other requests, LAMEDUCK_SITE=NAME for one site of tests/import/fronts alone.
differential: setup ## Run 91 imported sites beside nginx, 2,000 requests each
	LAMEDUCK_PROVE=1 tests/setup.sh
	LAMEDUCK_PROVE=1 $(CARGO) test --test import differential -- --nocapture

# SOAK_SECONDS=1800 for half an hour, SOAK_SEED=N for a run again.
soak: setup ## Half an hour of chaos against the oracle; figures go to target/prove/soak.md
	tests/setup.sh
	SOAK_SECONDS=$${SOAK_SECONDS:-1800} $(CARGO) test --release --test e2e soak:: -- --test-threads 1

# Each target for a minute; FUZZ_SECONDS=3600 for longer.
fuzz: setup ## Fuzz the parsers (needs cargo-fuzz and a C++ compiler)
	@CARGO="$(CARGO)" fuzz/run

# What shares memory between threads or handles it by hand, and needs no socket: Miri knows none. The gate has loom. Tests
# that join futures are left out: futures-util's joins break the rules of Stacked Borrows.
MIRI = idle:: shutdown_signal:: memory:: buffer::
miri: setup ## Look for undefined behaviour with Miri (rustup component add --toolchain nightly miri rust-src)
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/miri MIRIFLAGS="-Zmiri-disable-isolation" \
	  $(CARGO) +nightly miri test --lib -- $(MIRI) --skip body_that_streams_through
