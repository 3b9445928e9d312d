# Two commands for newcomers: `make demo` and `make test`. Both set up what they need first.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

DEMO_SECONDS ?= 20
FUZZ_EXAMPLES ?= 100000
INPUT ?=

# A sourced ROS 2 distribution brings its own rclpy; otherwise the wheels do.
ifdef ROS_DISTRO
VENV_OPTIONS := --system-site-packages
REQUIREMENTS := requirements.txt
else
VENV_OPTIONS :=
REQUIREMENTS := requirements.txt requirements-ros.txt
endif

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help setup demo test fuzz lint clean

help:
	@echo 'make demo    run the node on a synthetic street (INPUT=bag, video or folder; DEMO_SECONDS=20)'
	@echo 'make test    run all tests'
	@echo 'make fuzz    try strange input for about an hour (FUZZ_EXAMPLES=100000 of each kind)'
	@echo 'make lint    check style and types'
	@echo 'make setup   install everything into $(VENV)'
	@echo 'make clean   remove $(VENV) and build results'

setup: $(STAMP)

$(STAMP): requirements.txt requirements-ros.txt setup.py
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12) and f"Python 3.10 to 3.12 is needed; {sys.version.split()[0]} is here (choose with PYTHON=)")'
	$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(foreach file,$(REQUIREMENTS),-r $(file))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	$(BIN)/lednet demo --seconds $(DEMO_SECONDS) $(if $(INPUT),'$(INPUT)')

test: setup
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

fuzz: setup
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest test/fuzz

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build install log *.egg-info demo_out .pytest_cache .mypy_cache .ruff_cache
