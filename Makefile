# docker-job: `make` lists what there is to do. Nothing but Python 3.11 or newer is needed.

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
UV := $(firstword $(wildcard $(BIN)/uv) uv)
LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help run rehearse test test-campaign long bench backup restore rotate restore-test lint format types check docs lock clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## set up what is missing, then serve on http://127.0.0.1:8000
	@exec $(BIN)/python -m embedded.run

test: $(VENV)/.dev ## run all tests (some of them: make test ARGS="tests/unit -k backoff")
	@$(if $(ARGS),,$(BIN)/python -m tests.support.servers.rabbitmq_install)
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n auto)

test-campaign: $(VENV)/.dev ## what make test asks in a short form: twenty kills, compose faults, first boot
	@$(if $(ARGS),,$(BIN)/python -m tests.support.servers.rabbitmq_install beside)
	@$(BIN)/python -m pytest -m campaign $(if $(ARGS),$(ARGS),-n auto)

rehearse: $(VENV)/.dev ## play a Spot interruption on a strict EC2 of our own: no AWS account, half a minute
	@$(BIN)/python -m rehearsal $(ARGS)

backup: $(VENV)/.runtime ## save the database of `make run`, running or not: make backup FILE=today.backup
	@$(BIN)/python -m embedded.backup save "$(FILE)"

restore: $(VENV)/.runtime ## put a backup in its place, while it does not run: make restore FILE=today.backup
	@$(BIN)/python -m embedded.backup restore "$(FILE)"

rotate: $(VENV)/.runtime ## new secrets, while it does not run (secret_env too: make rotate ARGS=--secrets-key)
	@$(BIN)/python -m embedded.rotate $(ARGS)

restore-test: $(VENV)/.dev ## save, lose and restore, with jobs in flight: embedded and under compose
	@$(BIN)/python -m pytest tests/e2e/test_restore.py tests/integration/test_restored.py -m "not long" $(ARGS)

long: $(VENV)/.dev ## the scenarios that take minutes: outages of their true lengths
	@$(BIN)/python -m pytest -m long $(ARGS)

bench: $(VENV)/.runtime ## measure it beside its ceilings (some of it: make bench ARGS="--only accept --quick")
	@$(BIN)/python -m bench $(ARGS)

lint: $(VENV)/.dev ## ruff, its format check, and who may import whom
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check --quiet . || { echo "Run: make format" >&2; exit 1; }
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command as l; l()' --no-logo

format: $(VENV)/.dev ## put the code in the house's form
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m ruff check --fix .

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/python -m mypy --strict

check: lint types test ## lint, types and all tests but the long ones and the campaign

docs: $(VENV)/.runtime ## write docs/{asyncapi.json,openapi.json,api.md} anew from the code
	@$(BIN)/python -m operations.asyncapi > docs/asyncapi.json.new
	@mv docs/asyncapi.json.new docs/asyncapi.json
	@$(BIN)/python -m operations.openapi docs

lock: ## write requirements*.txt anew from requirements*.in (newer versions: make lock UPGRADE=--upgrade)
	@command -v $(UV) >/dev/null || { echo "Locking needs uv: pip install uv" >&2; exit 1; }
	@$(LOCK) requirements.in --output-file requirements.txt
	@$(LOCK) requirements-dev.in --output-file requirements-dev.txt
	@$(LOCK) requirements-rehearsal.in --output-file requirements-rehearsal.txt

clean: ## remove what was made here, except the data in .data
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is younger than its lock once all that the lock names is installed. A Ctrl-C while the
# environment was made may have left it without pip.
$(VENV)/.runtime: requirements.txt $(BIN)/python
	@echo "Installing what docker-job needs (once) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --require-hashes --requirement requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(BIN)/python
	@echo "Installing what the tests and checks need (once) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@

# Also when the Python that it was made of is gone. Debian has Python without venv: one line says so.
$(BIN)/python:
	@set -eu; found=; \
	for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "docker-job needs Python 3.11 or newer, and the PATH has none (make PYTHON=/path/to/python3)." >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "Python cannot make a virtual environment here: apt-get install python3-venv" >&2; \
	  exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV)
