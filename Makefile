# `make demo` and `make test` do all the set-up on a fresh machine (Python 3.11-3.13, git, a C compiler).
# PYTHON and TORCH can be overridden, e.g. `make test PYTHON=python3.12`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
# e.g. --index-url URL of an index with the small CPU build
TORCH_FLAGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
# how many tests run at once
JOBS ?= 2

export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
export CLOUD_SHARED ?= $(abspath ../shared)

.PHONY: demo test test-long fuzz lint install clean

# torch comes first, pinned, so that a machine with a CPU wheel of that version takes it
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"cloud-hf needs Python 3.11 to 3.13, not {v[0]}.{v[1]}; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)" $(TORCH_FLAGS)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

install: $(VENV)/.installed

demo: install
	HF_HUB_OFFLINE=1 $(BIN)/cloud-hf predict examples --output demo/predictions.csv --plot demo/heat_capacity.png

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not (slow or train or network)" -n $(JOBS) --dist loadfile

test-long: lint
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# 100,000 random crystals, damaged files and strings; any crash, hang or untyped exception is a finding
fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/fuzz/fuzz_encoder.py --inputs 100000 --seed 0 --processes $(JOBS)

clean:
	rm -rf $(VENV) demo build *.egg-info
