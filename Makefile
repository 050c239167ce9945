# `make run` shows oxmon at work on this machine, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@grep -hE '^[a-zA-Z0-9_.-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-28s %s\n", $$1, $$2}'

.PHONY: run
run: ## Set up, build, and run a server and an agent of this machine in ./data
	@scripts/run.sh

.PHONY: test
test: ## Set up what the tests need and run them all
	@scripts/test.sh

.PHONY: quick
quick: ## The tests for while writing code: within two minutes once built
	@. scripts/env.sh && if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked --profile quick; \
	  else echo "make: cargo-nextest is not installed (cargo install --locked cargo-nextest): the unit tests alone"; \
	  cargo test --locked --lib; fi

.PHONY: fuzz
fuzz: ## Fuzz every parser of bytes from outside for an hour (SECS=3600), all at once
	. scripts/env.sh && OXMON_FUZZ_SECS=$${SECS:-3600} cargo test --locked --lib fuzz:: -- --nocapture --test-threads 16

.PHONY: setup
setup: ## Install what a build needs
	@scripts/setup.sh build

.PHONY: lint
lint: ## Format and lints
	cargo fmt --check
	. scripts/env.sh && cargo clippy --locked --all-targets -- -D warnings

.PHONY: build
build: ## Release build of both daemons, linked with the system's libraries
	@scripts/setup.sh build
	@scripts/build.sh

.PHONY: docs
docs: ## Write the reference documents that are made from the code
	. scripts/env.sh && OXMON_WRITE_DOCS=1 cargo test --locked --quiet --test docs

.PHONY: musl musl-check release-check
musl: ## Static binaries for every Linux, as they ship: make musl [TARGET=x86_64-unknown-linux-musl]
	@scripts/musl.sh $(TARGET)

musl-check: ## Run what `make musl` built, other processors under qemu-user
	@scripts/musl-check.sh $(TARGET)

release-check: ## What a release is held against: builds, bytes twice, budgets, checks on four processors
	@scripts/musl.sh
	@scripts/musl.sh --twice --agent x86_64-unknown-linux-musl
	@scripts/size.sh --musl "$${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/release"
	@scripts/musl-check.sh
	@scripts/release-check.sh "$${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/release"

# Linux targets with glibc are cross-built with `cross` (a container engine is needed), macOS natively.
TRIPLES_MUSL := x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf riscv64gc-unknown-linux-musl
TRIPLES_CROSS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
TRIPLES_NATIVE := x86_64-apple-darwin aarch64-apple-darwin

.PHONY: $(TRIPLES_MUSL) $(TRIPLES_CROSS) $(TRIPLES_NATIVE)
$(TRIPLES_MUSL):
	@scripts/musl.sh $@

$(TRIPLES_CROSS):
	@command -v cross >/dev/null || { echo "make: cross is missing: cargo install cross"; exit 1; }
	cross build --locked --release --target $@ --features vendored --bins

$(TRIPLES_NATIVE):
	GRPCIO_SYS_USE_PKG_CONFIG=0 cargo build --locked --release --target $@ --features vendored --bins

.PHONY: package
package: ## Tarballs of one built target: make package TARGET=x86_64-unknown-linux-musl
	@test -n "$(TARGET)" || { echo "make: say which: make package TARGET=x86_64-unknown-linux-musl"; exit 2; }
	@scripts/package.sh $(TARGET) dist

.PHONY: release
release: ## Build and pack every target that ships
	@for triple in $(TRIPLES_MUSL) $(TRIPLES_NATIVE); do \
	  case "$$triple" in *darwin) [ "$$(uname -s)" = Darwin ] || { echo "make: $$triple needs a Mac: left out"; continue; } ;; esac; \
	  $(MAKE) $$triple && scripts/package.sh $$triple dist || exit 1; \
	done

.PHONY: deb rpm
deb: build ## Debian packages of both daemons in dist/
	@. scripts/env.sh && packaging/deb/build.sh "$$CARGO_TARGET_DIR/release" dist

rpm: build ## RPM packages of both daemons in dist/
	@. scripts/env.sh && packaging/rpm/build.sh "$$CARGO_TARGET_DIR/release" dist

.PHONY: apt-repo rpm-repo images
apt-repo: ## Signed APT repository of dist/*.deb in dist/apt: make apt-repo KEY=you@example.org
	@test -n "$(KEY)" || { echo "make: say which gpg key signs: make apt-repo KEY=you@example.org"; exit 2; }
	@scripts/apt-repo.sh dist dist/apt "$(KEY)"

rpm-repo: ## Signed RPM repository of dist/*.rpm in dist/rpm: make rpm-repo KEY=you@example.org
	@test -n "$(KEY)" || { echo "make: say which gpg key signs: make rpm-repo KEY=you@example.org"; exit 2; }
	@scripts/rpm-repo.sh dist dist/rpm "$(KEY)"

# This machine's processor as containers call it, and where `make musl` puts its binaries.
images: ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64)
images: BIN_DIR ?= $${CARGO_TARGET_DIR:-target}/$(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-musl/release
images: ENGINE ?= $(if $(shell command -v docker),docker,podman)
images: ## Images of both daemons from static binaries: make musl, then make images [BIN_DIR=… ENGINE=podman]
	@ENGINE="$(ENGINE)" scripts/images.sh dist/image "$(ARCH)=$(BIN_DIR)"

.PHONY: bench size soak agent-cost
bench: ## What both daemons do and cost on this machine
	@scripts/bench.sh
.PHONY: promql-bench
promql-bench: ## PromQL and remote write beside Prometheus and VictoriaMetrics
	@scripts/promql-bench.sh

size: ## What both daemons weigh, against packaging/budget.txt
	@scripts/size.sh

agent-cost: ## What the agent costs here and on a large host, beside others
	@scripts/agent-cost.sh

soak: ## An hour at 1 s: fails when the agent's memory grows
	@scripts/soak.sh
