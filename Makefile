# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test test-all check bench docs clean

demo: $(STAMP)
	$(BIN)/actlab demo

# worksteal: each process takes its tests file by file, and makes what a file's tests share once
test: check
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-all: check
	$(BIN)/pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python scripts/bench/extraction.py
	$(BIN)/python scripts/bench/features.py
	$(BIN)/python scripts/bench/ranking.py
	$(BIN)/python scripts/bench/coverage.py
	$(BIN)/python scripts/bench/subject_training.py
	$(BIN)/python scripts/bench/text.py

docs: $(STAMP)
	$(BIN)/python scripts/commands_page.py docs/commands.md

clean:
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("actlab needs Python 3.11 or newer; run: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
