# Every target installs what it needs into .venv first. PYTHON chooses the interpreter to make it with.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train study test lint types unit test-slow test-browser test-slurm format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv and install the framework with its development tools

$(STAMP): pyproject.toml
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: $(STAMP) ## Train the default model on drawn faces and write outputs/runs/<run>; OPTIONS=... are added
	$(PY) -m src.train $(OPTIONS)

# FER2013's archive or CSV, and where the runs of the study go.
FER2013 ?= $(FER2013_PATH)
STUDY := outputs/head_study
HEADS := linear,linear_flat,linear_bottleneck,self_attention,multihead
SWEEP = $(PY) -m src.train -m experiment=head_study seed=0,1,2 data.path=$(FER2013) sweep.resume=true $(STUDY_OPTIONS)

study: $(STAMP) ## Compare the heads on FER2013=<archive> and write docs/head_study.md; again after a kill, it goes on
	@test -n "$(FER2013)" || { echo "make study FER2013=<fer2013.csv or its archive>"; exit 1; }
	$(SWEEP) hydra.sweep.dir=$(STUDY)/fused head=emonet,$(HEADS)
	$(SWEEP) hydra.sweep.dir=$(STUDY)/weighted head=linear,self_attention,multihead loss.class_weights=balanced
	$(SWEEP) hydra.sweep.dir=$(STUDY)/sampled head=linear,self_attention,multihead data.sampler=balanced
	$(SWEEP) hydra.sweep.dir=$(STUDY)/half head=linear,self_attention,multihead data.half=first
	$(PY) -m src.train experiment=head_study_backbone data.path=$(FER2013) hydra.run.dir=$(STUDY)/backbone ckpt_path=auto $(STUDY_OPTIONS)
	$(SWEEP) hydra.sweep.dir=$(STUDY)/crossfit head=$(HEADS) data.half=second backbone=emonet_scratch \
		backbone.freeze=all backbone.weights=$(STUDY)/backbone/checkpoints/last.ckpt
	$(SWEEP) hydra.sweep.dir=$(STUDY)/crossfit_seen head=linear,multihead data.half=first backbone=emonet_scratch \
		backbone.freeze=all backbone.weights=$(STUDY)/backbone/checkpoints/last.ckpt
	$(SWEEP) hydra.sweep.dir=$(STUDY)/emotion2 head=$(HEADS) head.tap=emotion2 backbone.freeze=fused trainer.max_epochs=3
	$(PY) -m src.study runs=$(STUDY)

test: lint types unit ## Run everything that must be green: lint, types, tests

lint: $(STAMP) ## Check style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP) ## Check types
	$(VENV)/bin/mypy src

unit: $(STAMP) ## Run the tests, a worker a core
	$(PY) -m pytest --numprocesses=auto --dist=loadfile

test-browser: $(STAMP) ## Test the page in a headless Chromium; installs Debian's, which takes root, if there is none
	@command -v chromium >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }
	@$(PY) -c 'import playwright' 2>/dev/null || \
		$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	$(PY) -m pytest -m browser

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
