# Every target installs what it needs into .venv first. PYTHON chooses the interpreter to make it with.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed
LOWEST := $(VENV)/lowest

.DEFAULT_GOAL := help
.PHONY: help install lock train study original test lint types unit test-slow test-browser test-slurm test-lowest docs format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv and install the framework and its development tools, in the versions of requirements.lock

# An environment without the stamp was left half-made: it is made anew. Packages without a wheel, and ours, are built with
# the locked setuptools: isolated builds would fetch whatever is newest.
$(STAMP): pyproject.toml requirements.lock
	@test -f $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	$(PIP) --constraint requirements.lock setuptools
	$(PIP) --no-build-isolation --requirement requirements.lock
	$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

lock: $(STAMP) ## Renew requirements.lock: the newest releases that pyproject.toml allows
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --all-extras --upgrade \
		--no-annotate --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

train: $(STAMP) ## Train the default model on synthetic faces and write outputs/runs/<run>; OPTIONS=... are added
	$(PY) -m src.train $(OPTIONS)

# FER2013's archive or CSV, and where the runs of the study go.
FER2013 ?= $(FER2013_PATH)
STUDY := outputs/head_study
SEEDS ?= 0,1,2
# What goes with STUDY_OPTIONS=backbone=...: a network of its size from scratch, and widths with which linear has as many
# parameters as self_attention and multihead (with emonet_fer_small: emonet_small, and 186,929).
SCRATCH ?= emonet_scratch
WIDTHS ?= 316,543
HEADS := linear,linear_flat,linear_bottleneck,self_attention,multihead
SWEEP = $(PY) -m src.train -m experiment=head_study seed=$(SEEDS) data.path=$(FER2013) sweep.resume=true $(STUDY_OPTIONS)

# In emotion2 one epoch has to do: its blocks start from trained ones, and take several times as long as a head.
study: $(STAMP) ## Compare the heads on FER2013=<archive> and write docs/head_study.md; again after a kill, it goes on
	@test -n "$(FER2013)" || { echo "make study FER2013=<fer2013.csv or its archive>"; exit 1; }
	$(SWEEP) hydra.sweep.dir=$(STUDY)/fused head=emonet,$(HEADS)
	$(SWEEP) hydra.sweep.dir=$(STUDY)/weighted head=linear,self_attention,multihead loss.class_weights=balanced
	$(SWEEP) hydra.sweep.dir=$(STUDY)/sampled head=linear,self_attention,multihead data.sampler=balanced
	$(SWEEP) hydra.sweep.dir=$(STUDY)/sized head=linear head.width=$(WIDTHS)
	$(SWEEP) hydra.sweep.dir=$(STUDY)/half head=linear,self_attention,multihead data.half=first
	$(PY) -m src.train experiment=head_study_backbone data.path=$(FER2013) hydra.run.dir=$(STUDY)/backbone ckpt_path=auto \
		$(STUDY_OPTIONS) backbone=$(SCRATCH)
	$(SWEEP) hydra.sweep.dir=$(STUDY)/crossfit head=$(HEADS) data.half=second backbone=$(SCRATCH) \
		backbone.freeze=all backbone.weights=$(STUDY)/backbone/checkpoints/last.ckpt
	$(SWEEP) hydra.sweep.dir=$(STUDY)/crossfit_seen head=linear,multihead data.half=first backbone=$(SCRATCH) \
		backbone.freeze=all backbone.weights=$(STUDY)/backbone/checkpoints/last.ckpt
	$(SWEEP) hydra.sweep.dir=$(STUDY)/emotion2 head=$(HEADS) head.tap=emotion2 backbone.freeze=fused trainer.max_epochs=1
	$(PY) -m studies.head_study runs=$(STUDY)

ORIGINAL := outputs/original_experiment
DEFECT = $(PY) -m src.train -m experiment=original_experiment seed=$(SEEDS) sweep.resume=true $(STUDY_OPTIONS)

original: $(STAMP) ## Repeat the student project's experiment, with and without its defects, on the data in data/raw
	$(DEFECT) hydra.sweep.dir=$(ORIGINAL)/mended head=$(HEADS)
	$(DEFECT) hydra.sweep.dir=$(ORIGINAL)/doubled head=linear data.dedup=false
	$(DEFECT) hydra.sweep.dir=$(ORIGINAL)/imagenet head=linear backbone.normalize=imagenet
	$(DEFECT) hydra.sweep.dir=$(ORIGINAL)/drifting head=linear callbacks.train_mode_once.enabled=true cache=false
	$(DEFECT) hydra.sweep.dir=$(ORIGINAL)/upside_down head=linear transform.vertical_flip=0.5 cache=false
	$(DEFECT) hydra.sweep.dir=$(ORIGINAL)/all head=linear data.dedup=false backbone.normalize=imagenet cache=false \
		callbacks.train_mode_once.enabled=true transform.vertical_flip=0.5
	$(PY) -m studies.original_experiment runs=$(ORIGINAL)

test: lint types unit ## Run everything that must be green: lint, types, tests

lint: $(STAMP) ## Check style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP) ## Check types
	$(VENV)/bin/mypy src studies

unit: $(STAMP) ## Run the tests, a worker a core
	$(PY) -m pytest --numprocesses=auto --dist=loadfile

test-browser: $(STAMP) ## Test the demo in a headless Chromium; installs Debian's, which takes root, if there is none
	@command -v chromium >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }
	$(PY) -m pytest -m browser

test-slow: $(STAMP) ## Run the tests that take minutes
	$(PY) -m pytest -m slow

test-slurm: $(STAMP) ## Run a sweep and a requeued job on a Slurm of one node: root, slurmctld, slurmd, munge
	tests/cluster/slurm.sh $$(mktemp -d) $(PY) -m pytest -m slow tests/cluster

test-lowest: $(STAMP) ## Run the tests with the lowest versions that pyproject.toml allows (downloads some GB)
	$(VENV)/bin/uv venv --quiet --clear --python 3.11 $(LOWEST)
	$(VENV)/bin/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --all-extras --requirement pyproject.toml
	$(LOWEST)/bin/python -m pytest --numprocesses=auto --dist=loadfile
	rm -rf $(LOWEST)

# Not --quiet: --strict would not see the warnings that it counts.
docs: $(STAMP) ## Build the documentation in site/; broken links and missing references fail
	$(VENV)/bin/mkdocs build --strict

format: $(STAMP) ## Format the code and mend what ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Remove caches of tools; runs, data and .venv stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache site *.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
