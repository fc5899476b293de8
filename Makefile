# The verbs of this repository; each works in a fresh clone, as root or not.
#
#   make run     install into .venv and run the example workflow
#   make test    all tests; what this machine cannot run is skipped with its reason
#   make lint    style, and the layers of docs/architecture.md
#   make types   mypy, strict
#   make bench   figures beside a baseline taken in the same run
#   make docs    write the pages that are made from code
#   make wheel   build the wheel into dist/
#   make lock    bring requirements/*.lock up to what pyproject.toml asks for
#   make clean   remove what the above made

SUITABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c '$(SUITABLE)' 2>/dev/null && echo $(name))))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test lint types bench docs wheel lock clean

run: .venv/run.installed
	$(BIN)/lading run docs/examples/diamond.yaml

test: .venv/dev.installed
	$(BIN)/pytest $(ARGS)

lint: .venv/dev.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: .venv/dev.installed
	$(BIN)/mypy
	$(BIN)/mypy docs/states.py

bench: .venv/dev.installed
	$(BIN)/python -m tests.benchmarks $(ARGS)

docs: .venv/dev.installed
	$(BIN)/python docs/states.py

wheel: .venv/dev.installed
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --quiet

lock: .venv/dev.installed
	$(call compile,run,)
	$(call compile,dev,--group dev --constraint requirements/run.lock)

clean:
	rm -rf .venv build dist output *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/run.installed: requirements/run.lock pyproject.toml setup.py
	$(call install,run)
	@touch $@

.venv/dev.installed: requirements/dev.lock requirements/run.lock pyproject.toml setup.py
	$(call install,dev)
	@touch .venv/run.installed $@

# From the lock alone; then ourselves, built with the locked setuptools.
define install
	@test -n "$(PYTHON)" || { echo "Lading needs Python 3.11 or newer, with venv (Debian: python3-venv). Install it, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into .venv (requirements/$(1).lock)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --requirement requirements/$(1).lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
endef

# For every platform and Python at once; no addresses, so that any index or mirror may serve it.
define compile
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra server --extra slurm --extra tui --group build $(2) --output-file requirements/$(1).lock pyproject.toml
endef
