# Two commands for newcomers: `make demo` and `make test`. Both set up what they need first.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

DEMO_SECONDS ?= 20
FUZZ_EXAMPLES ?= 100000
SOAK_MINUTES ?= 60
INPUT ?=

# A sourced ROS 2 distribution brings its own rclpy; otherwise the wheels do.
ifdef ROS_DISTRO
VENV_OPTIONS := --system-site-packages
LOCKS := requirements/main.lock
else
VENV_OPTIONS :=
LOCKS := requirements/main.lock requirements/ros.lock
endif
PIP := -m pip install --quiet --disable-pip-version-check
# cpu or cuda; the build for the CPU by default where pip finds it.
TORCH ?=
TOOLS := .venv-tools

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help setup demo test fuzz torture soak coverage lint lock audit sbom clean

help:
	@echo 'make demo      run the node on a synthetic street (INPUT=bag, video or folder; DEMO_SECONDS=20)'
	@echo 'make test      run all tests'
	@echo 'make coverage  run them, and show which lines of the core they reach'
	@echo 'make fuzz      try strange input for about an hour (FUZZ_EXAMPLES=100000 of each kind)'
	@echo 'make torture   bring faults about on live nodes, for ten minutes'
	@echo 'make soak      run the node under load for an hour (SOAK_MINUTES=60)'
	@echo 'make lint      check style and types'
	@echo 'make audit     look for known vulnerabilities in what is installed'
	@echo 'make sbom      list what is installed in sbom.json, as CycloneDX'
	@echo 'make lock      write requirements/*.lock anew'
	@echo 'make setup     install everything into $(VENV) (TORCH=cpu or cuda)'
	@echo 'make clean     remove $(VENV) and build results'

setup: $(STAMP)

$(STAMP): $(wildcard requirements/*.lock) setup.py
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12) and f"Python 3.10 to 3.12 is needed; {sys.version.split()[0]} is here (choose with PYTHON=)")'
	$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	torch=$(TORCH); test -n "$$torch" || torch=$$($(BIN)/python $(PIP) --dry-run --no-deps \
	  --require-hashes -r requirements/torch-cpu.lock >/dev/null 2>&1 && echo cpu || echo cuda); \
	$(BIN)/python $(PIP) --require-hashes $(LOCKS:%=-r %) -r requirements/torch-$$torch.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	$(BIN)/lednet demo --seconds $(DEMO_SECONDS) $(if $(INPUT),'$(INPUT)')

test: setup
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

fuzz: setup
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest test/fuzz

torture: setup
	$(BIN)/lednet torture --json torture.json

soak: setup
	$(BIN)/lednet benchmark soak --minutes $(SOAK_MINUTES) --json soak.json --plot soak.png

coverage: setup
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90 $(PYTEST_OPTIONS)

lock: $(TOOLS)
	UV=$(CURDIR)/$(TOOLS)/bin/uv requirements/lock.sh

# --strict: a package that the service doesn't know is a failure, not silence.
audit: $(TOOLS)
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes $(LOCKS:%=-r %)
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/torch-cuda.lock

# Without the path of this folder, which pip notes of what it installs from there.
sbom: setup $(TOOLS)
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --of JSON $(BIN)/python \
	  | sed 's|file://$(CURDIR)|.|' > sbom.json

$(TOOLS): requirements/tools.lock
	$(PYTHON) -m venv $@
	$@/bin/python $(PIP) --require-hashes -r $<
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(TOOLS) build install log *.egg-info demo_out .pytest_cache .mypy_cache .ruff_cache
