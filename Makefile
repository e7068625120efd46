# Everything a newcomer or CI runs. Needs Python >= 3.11 with venv, and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-slow check lint types imports train evaluate bench simulate kills fuzz tls-scan clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
RECORD ?=
SEEDS ?= 0:300
ROUNDS ?= 25
CASES ?= 20
# As many as there are cores, two at least: much of a test is waiting for disk.
TEST_PROCESSES ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 2 ] && echo $$n || echo 2)
REPORT ?= demo-report.html
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

# One stamp a set of extras, so that `make demo` never installs what only tests or training need.
define install
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing einthoven[$(1)]"; $(PIP) -e '.[$(1)]'
	@touch $@
endef

$(VENV)/.demo: setup.cfg pyproject.toml
	$(call install,server)

$(VENV)/.formats: setup.cfg pyproject.toml
	$(call install,server$(comma)formats)

$(VENV)/.test: setup.cfg pyproject.toml
	$(call install,test$(comma)conversion)
	@touch $(VENV)/.demo $(VENV)/.formats $(VENV)/.train

$(VENV)/.train: setup.cfg pyproject.toml
	$(call install,conversion)

comma := ,

demo: $(if $(RECORD),$(VENV)/.formats,$(VENV)/.demo)  ## an ECG in, a signed result out: the whole path, in half a minute
	@$(BIN)/python -m einthoven_demo --report "$(REPORT)" $(if $(RECORD),--record "$(RECORD)")

test: $(VENV)/.test  ## the tests, without the slow ones; they must run nine tenths of the code
	$(BIN)/pytest -m "not slow" -n $(TEST_PROCESSES) --cov --cov-report=term --cov-fail-under=90

test-slow: $(VENV)/.test  ## the long ones too
	$(BIN)/pytest -m slow --timeout 3600

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

imports: $(VENV)/.test
	$(BIN)/lint-imports --no-cache

check: lint types imports  ## what a reader of a change need not look for: form, types, directions of imports

train: $(VENV)/.train  ## five folds, then the shipped model (conversion/README.md says how long)
	$(BIN)/einthoven-convert train --data "$(DATA)"

evaluate: $(VENV)/.train
	$(BIN)/einthoven-convert evaluate --data "$(DATA)" --dataset cinc2017

$(VENV)/.bench: setup.cfg pyproject.toml
	$(call install,conversion$(comma)bench)

bench: $(VENV)/.bench evaluate  ## the figures that can be measured so far
	$(BIN)/einthoven-bench signal --data "$(DATA)"
	$(BIN)/einthoven-bench model --data "$(DATA)"
	$(BIN)/einthoven-bench sync --data "$(DATA)"
	$(BIN)/einthoven-bench server

simulate: $(VENV)/.test  ## histories of devices, server and network on virtual time that must converge; SEEDS=0:100000 is the long run
	$(BIN)/python -m einthoven_bench.simulation --seeds $(SEEDS) --jobs $(TEST_PROCESSES)

kills: $(VENV)/.test  ## device, server and PostgreSQL killed with -9 in the midst of work, for real; ROUNDS=500 is the long run
	$(BIN)/python -m einthoven_bench.kills --rounds $(ROUNDS)

fuzz: $(VENV)/.test  ## Schemathesis over the server's own OpenAPI; CASES=1000 is the long run
	$(BIN)/python -m einthoven_bench.fuzzing --examples $(CASES)

# sslyze is a tool, not a part: it has an environment of its own, and nothing imports it.
$(VENV)-tls/bin/sslyze:
	$(PYTHON) -m venv $(VENV)-tls
	$(VENV)-tls/bin/pip install --quiet --disable-pip-version-check 'sslyze>=6,<7'

tls-scan: $(VENV)/.test $(VENV)-tls/bin/sslyze  ## what a scanner finds in the server's TLS
	$(BIN)/python -m einthoven_bench.tls_scan --sslyze $(VENV)-tls/bin/sslyze

clean:  ## all that these commands made, and nothing else
	rm -rf $(VENV) $(VENV)-tls build dist .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov demo-report.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -maxdepth 2 -name '*.egg-info' -type d -prune -exec rm -rf {} +
