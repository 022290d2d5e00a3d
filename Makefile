# Every target installs what it needs into .venv first. PYTHON chooses the interpreter to make it with.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test lint types unit test-slow test-slurm format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv and install the framework with its development tools

$(STAMP): pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: $(STAMP) ## Train the default model on drawn faces and write outputs/runs/<run>
	$(PY) -m src.train

test: lint types unit ## Run everything that must be green: lint, types, tests

lint: $(STAMP) ## Check style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP) ## Check types
	$(VENV)/bin/mypy src

unit: $(STAMP) ## Run the tests
	$(PY) -m pytest

test-slow: $(STAMP) ## Run the tests that take minutes
	$(PY) -m pytest -m slow

test-slurm: $(STAMP) ## Run a sweep and a requeued job on a Slurm of one node: root, slurmctld, slurmd, munge
	tests/cluster/slurm.sh $$(mktemp -d) $(PY) -m pytest -m slow tests/cluster

format: $(STAMP) ## Format the code and mend what ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Remove caches of tools; runs, data and .venv stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
