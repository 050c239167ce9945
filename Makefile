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
	. scripts/env.sh && cargo build --locked --release --bins

.PHONY: docs
docs: ## Write the reference documents that are made from the code
	. scripts/env.sh && OXMON_WRITE_DOCS=1 cargo test --locked --quiet --test docs

.PHONY: static
static: ## Fully static binaries from source (takes a while)
	@scripts/static.sh
