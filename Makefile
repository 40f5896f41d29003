# Two commands to remember: `make run` and `make test`. Both set up whatever is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup venv run check test pythons chaos deployments ground lint lock page bench fuzz clean

BIN := .venv/bin
# Most tests wait for containers, or for time to pass. A file's tests share its servers.
TEST_PROCESSES := 3

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: venv ## virtual environment, container engine, image, CA bundle, index; quick when nothing is missing
	@deploy/setup/engine.sh
	@deploy/setup/image.sh
	@deploy/setup/ca.sh
	@deploy/setup/index.sh

venv:
	@deploy/setup/venv.sh

run: setup ## set up, then serve in the foreground (Ctrl-C drains and stops)
	@exec $(BIN)/pgexec serve

# The fast part: no root, no engine, under a minute. What it leaves out, `make test` runs.
check: lint ## lint, types, import contracts and the fast unit tests with their coverage
	@exec $(BIN)/pytest tests/unit -q -m 'not slow' --hypothesis-profile=check --cov --cov-report=term:skip-covered

test: setup ## set up, lint, then every test against every test image
	@deploy/setup/image.sh --stand-in
	@deploy/setup/image.sh --newest
	@deploy/setup/prometheus.sh
	@deploy/setup/chromium.sh
	@deploy/setup/mcp_clients.sh
	@deploy/setup/editor.sh
	@$(MAKE) --no-print-directory lint
	@exec $(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

pythons: setup ## the tests that the interpreter's version matters to, on every CPython at hand since 3.8
	@deploy/setup/image.sh --stand-in
	@deploy/setup/image.sh --newest
	@images=$$(deploy/setup/image.sh --each) && \
	  PGEXEC_TEST_EVERY_PYTHON=1 PGEXEC_TEST_IMAGES=$$images exec $(BIN)/pytest \
	  tests/unit/test_runner_versions.py tests/unit/test_session_versions.py tests/unit/test_preimport.py \
	  tests/differential

chaos: setup ## break engine and server in every way we know; PGEXEC_CHAOS_SOAK_MINUTES=30 for longer
	@exec $(BIN)/pytest tests/chaos

deployments: setup ## install, build and start what is in deploy/, with the real parts: proxies, Prometheus, Compose, kubectl
	@deploy/setup/prometheus.sh
	@deploy/setup/compose.sh
	@deploy/setup/proxies.sh
	@deploy/setup/kubernetes.sh
	@PGEXEC_TEST_DEPLOYMENTS=1 exec $(BIN)/pytest tests/deploy

ground: setup ## try pgexec on another engine of Debian's suites, for docs/engines.md: GROUND=podman, docker-crun, ...
	@exec tests/grounds/ground.sh $(or $(GROUND),podman) $(CHECKS)

lint: venv ## ruff, mypy and the import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# uv's and pip's own configuration stays out of the lock: it names versions and hashes, no sources.
lock: ## resolve requirements.lock again; UPGRADE=--upgrade for newer versions
	@uv --no-config pip compile pyproject.toml --extra client --extra mcp --extra otel --group build --group dev \
	  --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --quiet $(UPGRADE) --output-file requirements.lock
	@uv --no-config pip compile --group pyproject.toml:fuzz --python-version 3.11 \
	  --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --quiet $(UPGRADE) \
	  --output-file tests/fuzz/requirements.lock

page: ## bundle the page's editor again after a change in editor/ (with npm)
	@deploy/setup/editor.sh 1
	@node editor/build.js

bench: setup ## measure against a running engine; `make bench files` measures one section
	@$(if $(filter machines,$(MAKECMDGOALS)),deploy/setup/proxies.sh,:)
	@exec $(BIN)/python -m bench $(filter files latency machines peers,$(MAKECMDGOALS))

files latency machines peers: # sections of bench
	@:

# A group of its own: 40 MB, and only for Linux on x86-64.
fuzz: venv ## let atheris loose on what reads frames; FUZZ_S=60 for each target
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  uv --quiet --no-config pip install --python .venv --require-hashes --only-binary :all: \
	  -r tests/fuzz/requirements.lock
	@for target in codec container; do \
	  $(BIN)/python tests/fuzz/frames.py $$target -max_total_time=$(or $(FUZZ_S),60) \
	    -print_final_stats=1 -verbosity=0; done

clean: ## remove the virtual environment and caches; images and settings.local.env stay
	@rm -rf .venv editor/node_modules .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
