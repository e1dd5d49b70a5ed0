# `make demo` and `make test` do all the set-up on a fresh machine (Python 3.11-3.13, git, a C compiler).
# PYTHON and TORCH can be overridden, e.g. `make test PYTHON=python3.12`. CONTRIBUTING.md says when to run which.
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

.PHONY: demo docs test test-app test-long test-python test-lowest test-common fuzz lint hooks install install-dev clean

# torch comes first, pinned, so that a machine with a CPU wheel of that version takes it
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"cloud-hf needs Python 3.11 to 3.13, not {v[0]}.{v[1]}; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)" $(TORCH_FLAGS)
	$(BIN)/python -m pip install --quiet --editable . $(PIP_FLAGS)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(PIP_FLAGS)
	@touch $@

# what a user has
install: $(VENV)/.installed

# and every extra, with what tests and checks need
install-dev: $(VENV)/.installed-dev

demo: install
	HF_HUB_OFFLINE=1 $(BIN)/cloud-hf predict examples --output demo/predictions.csv --plot demo/heat_capacity.png

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[docs,baselines,corpus]" $(PIP_FLAGS)
	@touch $@

# the documentation site, in docs/_build; a warning is an error
docs: $(VENV)/.installed-docs
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs docs/_build

# the hooks of .pre-commit-config.yaml, at every commit from now on
hooks: install-dev
	$(BIN)/pre-commit install

PYTEST = HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python $(COUNTER) -m pytest -n $(JOBS) --dist loadfile
QUICK := -m "not (slow or train or network or browser)"

# two commands, since slipcover 1.1 asked to fail in the first prints the table without the test processes
test: COUNTER := -m slipcover --json --out .coverage.json
test: lint
	$(PYTEST) $(QUICK)
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --fail-under 90

# the demo page in headless Chromium, which `apt-get install chromium` brings; skips where it is missing
test-app: install-dev
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -rs -m browser tests/app

test-long: lint
	$(PYTEST)

# the same tests on another Python, in an environment of its own: make test-python PYTHON=python3.12
test-python:
	$(MAKE) $(VENV)-$(notdir $(PYTHON))/.installed-dev VENV=$(VENV)-$(notdir $(PYTHON))
	$(MAKE) quick VENV=$(VENV)-$(notdir $(PYTHON))

# the same tests on the lowest versions that setup.cfg allows
LOWEST_TORCH ?= torch==2.10.0
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet uv
	echo "$(LOWEST_TORCH)" > $(VENV)-lowest/torch.txt
	$(VENV)-lowest/bin/uv pip compile --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct --override $(VENV)-lowest/torch.txt --extra dev setup.cfg --output-file $(VENV)-lowest/lowest.txt
	$(MAKE) $(VENV)-lowest/.installed-dev VENV=$(VENV)-lowest TORCH="$(LOWEST_TORCH)" PIP_FLAGS="--constraint $(VENV)-lowest/lowest.txt"
	$(MAKE) quick VENV=$(VENV)-lowest

.PHONY: quick
quick:
	$(PYTEST) $(QUICK)

# transformers' own test suites over every class; the first time pip fetches the source archive they are in
test-common: install-dev
	$(BIN)/python tests/transformers_common/mixins.py
	$(PYTEST) -n 0 tests/transformers_common

# 100,000 random crystals, damaged files and strings; any crash, hang or untyped exception is a finding
fuzz: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/fuzz/fuzz_encoder.py --inputs 100000 --seed 0 --processes $(JOBS)

clean:
	rm -rf $(VENV) $(VENV)-* demo build docs/_build *.egg-info
