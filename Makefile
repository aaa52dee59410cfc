# docker-job: `make` lists the targets. It needs only Python 3.11 or newer.

# An empty value, also `make PYTHON=`, means the default.
override PYTHON := $(or $(strip $(PYTHON)),python3 python3.14 python3.13 python3.12 python3.11)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
UV := $(firstword $(wildcard $(BIN)/uv) uv)
LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help run doctor rehearse drill test test-campaign long bench backup restore rotate restore-test lint format types check docs client lock audit clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime $(VENV)/.client ## set up what is missing, and serve on http://127.0.0.1:8000
	@exec $(BIN)/python -m embedded.run

doctor: $(VENV)/.runtime ## check settings, AWS account, API and engine, changing nothing (make doctor ARGS="--as launcher")
	@$(BIN)/python -m operations.doctor $(ARGS)

test: $(VENV)/.dev $(VENV)/.client ## run all tests (some of them: make test ARGS="tests/unit -k backoff")
	@$(if $(ARGS),,$(BIN)/python -m tests.support.servers.rabbitmq_install)
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n auto)

test-campaign: $(VENV)/.dev $(VENV)/.client $(VENV)/.emulators ## what make test asks in a short form: twenty kills, compose faults, first boot
	@$(if $(ARGS),,$(BIN)/python -m tests.support.servers.rabbitmq_install beside)
	@$(BIN)/python -m pytest -m "campaign and not long" $(if $(ARGS),$(ARGS),-n auto)

rehearse: $(VENV)/.dev ## run a Spot interruption on a strict fake EC2: no AWS account, half a minute
	@$(BIN)/python -m rehearsal $(ARGS)

drill: $(BIN)/python ## play outages on a compose deployment with 50 running jobs: needs Docker (8 minutes: make drill ARGS=--short)
	@$(BIN)/python -m drill $(ARGS)

backup: $(VENV)/.runtime ## back up the database of `make run`, running or stopped: make backup FILE=today.backup
	@$(BIN)/python -m embedded.backup save "$(FILE)"

restore: $(VENV)/.runtime ## restore a backup, while it is stopped: make restore FILE=today.backup
	@$(BIN)/python -m embedded.backup restore "$(FILE)"

rotate: $(VENV)/.runtime ## make new secrets, while it is stopped (secret_env too: make rotate ARGS=--secrets-key)
	@$(BIN)/python -m embedded.rotate $(ARGS)

restore-test: $(VENV)/.dev $(VENV)/.client ## test backup and restore with jobs in flight: embedded and under compose
	@$(BIN)/python -m pytest tests/e2e/test_restore.py tests/integration/test_restored.py -m "not long" $(ARGS)

long: $(VENV)/.dev ## the scenarios that take minutes: outages of their true lengths
	@$(BIN)/python -m pytest -m long $(ARGS)

bench: $(VENV)/.runtime ## measure performance beside its bounds (some of it: make bench ARGS="--only accept --quick")
	@$(BIN)/python -m bench $(ARGS)

lint: $(VENV)/.dev $(VENV)/.client ## ruff, its format check, and the import rules
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check --quiet . || { echo "Run: make format" >&2; exit 1; }
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command as l; l()' --no-logo

format: $(VENV)/.dev ## format the code
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m ruff check --fix .

types: $(VENV)/.dev $(VENV)/.client ## mypy --strict
	@$(BIN)/python -m mypy --strict

check: lint types test ## lint, types and all tests but the long ones and the campaign

docs: $(VENV)/.runtime $(VENV)/.client ## regenerate docs/{asyncapi.json,openapi.json,api.md,cli.md} from the code
	@$(BIN)/python -m operations.asyncapi > docs/asyncapi.json.new
	@mv docs/asyncapi.json.new docs/asyncapi.json
	@$(BIN)/python -m operations.openapi docs
	@$(BIN)/python -m docker_job.cli.reference > docs/cli.md.new
	@mv docs/cli.md.new docs/cli.md

client: $(VENV)/.dev $(VENV)/.client ## regenerate the synchronous half of the Python client from the asynchronous one
	@$(BIN)/python client/make_sync.py

lock: $(BIN)/python ## regenerate requirements*.txt and images.lock (newer packages: make lock UPGRADE=--upgrade)
	@command -v $(UV) >/dev/null || { echo "Locking needs uv: pip install uv" >&2; exit 1; }
	@$(LOCK) requirements.in --output-file requirements.txt
	@$(LOCK) requirements-client.in --output-file requirements-client.txt
	@$(LOCK) requirements-dev.in --output-file requirements-dev.txt
	@$(LOCK) requirements-rehearsal.in --output-file requirements-rehearsal.txt
	@$(LOCK) requirements-emulators.in --output-file requirements-emulators.txt
	@$(LOCK) requirements-audit.in --output-file requirements-audit.txt
	@$(BIN)/python -m supply_chain.lock_images

audit: $(VENV)/.audit ## write bills of materials (CycloneDX) to .audit/, and look up known vulnerabilities
	@$(BIN)/python -m supply_chain.audit $(VENV)/audit/bin .audit

clean: ## remove everything that make created, except the data in .data
	@rm -rf $(VENV) .audit .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than its lock file once all packages of the lock file are installed. A Ctrl-C while
# the environment was created may have left it without pip.
$(VENV)/.runtime: requirements.txt $(BIN)/python
	@echo "Installing the packages that docker-job needs (once) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --require-hashes --requirement requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(BIN)/python
	@echo "Installing the packages that tests and checks need (once) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@

# The command `docker-job`, as $(BIN)/docker-job: from this checkout, with what it needs.
$(VENV)/.client: requirements-client.txt client/pyproject.toml $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(PIP) install --require-hashes --requirement requirements-client.txt
	@$(PIP) install --no-deps --no-build-isolation --editable ./client
	@touch $@

# In an environment of their own, since they pin versions of what we use.
$(VENV)/.emulators: requirements-emulators.txt $(BIN)/python
	@echo "Installing the emulators of AWS that the campaign needs (once) ..."
	@$(BIN)/python -m venv --clear $(VENV)/emulators
	@$(VENV)/emulators/bin/python -m pip --disable-pip-version-check --no-input --quiet install \
	  --require-hashes --requirement requirements-emulators.txt
	@touch $@

# In an environment of their own, so that they are not among what they audit.
$(VENV)/.audit: requirements-audit.txt $(BIN)/python
	@echo "Installing the programs that the audit needs (once) ..."
	@$(BIN)/python -m venv --clear $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip --disable-pip-version-check --no-input --quiet install \
	  --require-hashes --requirement requirements-audit.txt
	@touch $@

# It is recreated when its Python was removed. Debian's Python may lack venv: the message says so.
$(BIN)/python:
	@set -eu; found=; \
	for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "docker-job needs Python 3.11 or newer, and there is none on the PATH (make PYTHON=/path/to/python3)." >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "Python cannot create a virtual environment here: apt-get install python3-venv" >&2; \
	  exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV)
