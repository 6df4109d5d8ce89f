# RAT. `make` alone lists what there is; each target is one line over uv or the rat command.
# Variables such as RAT_HOME pass through: make demo RAT_HOME=/tmp/rat

.DEFAULT_GOAL := help
.PHONY: help demo dev dev-servers test test-crash lint format stop install
.SUFFIXES:

# The uv of this machine, or one of our own.
UV := $(shell command -v uv || echo .uv/bin/uv)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: .venv/installed ## install, then play a year of real flights from files to gold
	@.venv/bin/rat demo

dev: .venv/installed ## open the Dagster UI with everything switched on
	@.venv/bin/rat dev

dev-servers: .venv/installed ## run Nessie and S3-compatible storage to try RAT with, and say how
	@.venv/bin/python -m tests.servers.install && .venv/bin/python -m tests.servers

test: .venv/installed ## run the whole test suite, on servers of its own
	@.venv/bin/python -m tests.servers.install && .venv/bin/pytest

test-crash: .venv/installed ## kill runs at every step, with every strategy, on every keeper of branches
	@.venv/bin/python -m tests.servers.install && RAT_CRASH_ROUNDS=28 .venv/bin/pytest tests/crash -s

lint: .venv/installed ## check the formatting, the style and the types
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy

format: .venv/installed ## format the code
	@.venv/bin/ruff format .

stop: .venv/installed ## stop the embedded Postgres
	@.venv/bin/rat stop

install: .venv/installed ## install the locked versions into .venv

.venv/installed: pyproject.toml uv.lock | $(UV)
	@echo "installing the locked packages into .venv …"
	@$(UV) sync --locked --compile-bytecode --quiet && touch $@

.uv/bin/uv:
	@rm -rf .uv; { python3 -m venv .uv && .uv/bin/pip install --quiet uv; } 2>/dev/null \
	|| { rm -rf .uv; python3 -m pip install --quiet --target .uv uv; } \
	|| { echo "make: uv is missing and python3 can install nothing; install one of uv, python3-venv, python3-pip" >&2; exit 1; }
