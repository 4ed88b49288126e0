# make demo   set up, then the lab's Exercise 1 through the whole service on the real MNIST
# make up     set up, then API and worker until Ctrl-C
# make test   set up, then everything that CI runs
# make bench  set up, then the measurements of docs/benchmarks.md
# make soak   set up, then the killing test: 200 SIGKILLs, and the weights are the same to the bit
# make docs   set up, then the documentation as a site in ./site
# make screenshots   set up, then the pictures of the dashboard in docs/images
# make study  set up, then what residual connections and fine-tuning buy: docs/*-study.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Real data for the tests that need it; they are skipped where there is none.
export WHISTLESTOP_TEST_DATASETS ?= $(abspath $(wildcard ../shared/datasets))

.DEFAULT_GOAL := demo
.PHONY: demo up test bench soak study docs screenshots format clean

demo: $(VENV)/worker.installed
	@$(BIN)/python examples/demo.py

up: $(VENV)/worker.installed
	@$(BIN)/whistlestop up

test: $(VENV)/dev.installed $(VENV)/browser.sought
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest

bench: $(VENV)/bench.installed
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.convolutions
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.dashboard
	$(BIN)/python -m benchmarks.peers

soak: $(VENV)/dev.installed
	$(BIN)/python -m tests.e2e.soak --kills 200

study: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks.study
	$(BIN)/python -m benchmarks.finetuning

docs: $(VENV)/dev.installed
	$(BIN)/mkdocs build --strict

screenshots: $(VENV)/dev.installed $(VENV)/browser.sought
	$(BIN)/python -m tests.e2e.screenshots

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache test-artifacts site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Whistlestop needs Python 3.11 or newer; $(PYTHON) is older or missing. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp is touched when its installation is complete: an interrupted one is done again, a complete one never.
$(VENV)/worker.installed: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[worker]'
	@touch $@

$(VENV)/dev.installed: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[worker,dev]'
	@touch $@ $(VENV)/worker.installed

$(VENV)/bench.installed: pyproject.toml $(VENV)/dev.installed
	$(PIP) install -e '.[worker,dev,bench]'
	@touch $@

# The browser of tests/e2e: one that is there, or Playwright's, or Debian's. Without any it is skipped.
$(VENV)/browser.sought: $(VENV)/dev.installed
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
	  || $(BIN)/playwright install chromium \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } \
	  || echo "no Chromium here: the browser tests will be skipped"
	@touch $@
