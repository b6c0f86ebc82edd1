# Everything a developer types. Each target makes the virtual environment it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# where PYTHONDONTWRITEBYTECODE is set, every start of an editable install would compile it anew
COMPILE := $(BIN)/python -m compileall -q gitml

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "gitml needs Python 3.11 or later; choose one with: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "this Python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/for-demo: $(VENV)/made pyproject.toml
	@echo "installing gitml and scikit-learn"
	@$(PIP) install --editable '.[templates]'
	@$(COMPILE)
	@touch $@

$(VENV)/for-demo-remote: $(VENV)/made pyproject.toml
	@echo "installing gitml, scikit-learn and an S3 server"
	@$(PIP) install --editable '.[demo]'
	@$(COMPILE)
	@touch $@ $(VENV)/for-demo

$(VENV)/for-development: $(VENV)/made pyproject.toml
	@echo "installing gitml and the tools of its developers"
	@$(PIP) install --editable '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/for-demo $(VENV)/for-demo-remote

# an emulator of Azure, from npm; without npm the tests that need it are skipped and say so
AZURITE := azurite@3.37.0
$(VENV)/for-azure: $(VENV)/made
	@{ command -v npm >/dev/null && echo "installing $(AZURITE)" \
	    && npm install --silent --no-audit --no-fund --prefix $(VENV)/azurite $(AZURITE) && touch $@; } \
	    || echo "$(AZURITE) could not be installed with npm; going on without" >&2

.PHONY: demo
demo: $(VENV)/for-demo  ## the story of gitml, told with real commands; KEEP=1 keeps its directory
	@$(BIN)/python -m demo.story

.PHONY: demo-remote
demo-remote: $(VENV)/for-demo-remote  ## its second half: the same project in a bucket, without a git server
	@$(BIN)/python -m demo.remote_story

.PHONY: test
test: $(VENV)/for-development $(VENV)/for-azure  ## all tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

.PHONY: lint
lint: $(VENV)/for-development  ## style: ruff check and ruff format
	@$(BIN)/ruff check --quiet && $(BIN)/ruff format --check --quiet && echo "style: good"

.PHONY: types
types: $(VENV)/for-development  ## types: mypy --strict
	@$(BIN)/mypy

.PHONY: layers
layers: $(VENV)/for-development  ## layers: who may import whom
	@$(BIN)/lint-imports

.PHONY: check
check: lint types layers test  ## all of the above but the demo

.PHONY: wheel
wheel: $(VENV)/made  ## the wheel, in dist/
	@$(PIP) wheel --no-deps --wheel-dir dist .
	@ls dist/*.whl

.PHONY: bench
bench: $(VENV)/for-development  ## benchmarks: latency of commit and status
	@for each in benchmarks/latency*.py; do $(BIN)/python $$each || exit; done

.PHONY: pictures
pictures: $(VENV)/for-development  ## outputs and pictures in docs/review.md; needs Chromium
	@$(BIN)/python -m tests.review.pictures

.PHONY: clean
clean:  ## remove what the targets made
	@rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
