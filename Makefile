# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
LOWEST := .venv-lowest

NEW_ENOUGH := $(PYTHON) -c 'import sys; sys.exit("actlab needs Python 3.11 or newer; run: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'

.PHONY: demo test test-all test-lowest check bench docs clean

demo: $(STAMP)
	$(BIN)/actlab demo

# worksteal: each process takes its tests file by file, and makes what a file's tests share once
test: check
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-all: check
	$(BIN)/pytest -n 2 --dist worksteal

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python scripts/bench/startup.py
	$(BIN)/python scripts/bench/extraction.py
	$(BIN)/python scripts/bench/features.py
	$(BIN)/python scripts/bench/ranking.py
	$(BIN)/python scripts/bench/coverage.py
	$(BIN)/python scripts/bench/subject_training.py
	$(BIN)/python scripts/bench/text.py

docs: $(STAMP)
	$(BIN)/python scripts/commands_page.py docs/commands.md
	$(BIN)/python scripts/api_stub.py src/actlab/__init__.pyi

clean:
	rm -rf $(VENV) $(LOWEST)

$(STAMP): pyproject.toml constraints.txt
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The lowest releases that pyproject.toml allows and that have wheels for this Python (with 3.11 or 3.12, all but a few of them the
# floors themselves); torch stays that of constraints.txt, as its wheels are large. uv takes them from the index that pip is set to.
$(LOWEST)/installed: pyproject.toml constraints.txt
	$(NEW_ENOUGH)
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch uv
	grep '^torch==' constraints.txt > $(LOWEST)/torch.txt
	index=$$($(LOWEST)/bin/pip config get :env:.index-url 2> /dev/null || $(LOWEST)/bin/pip config get global.index-url 2> /dev/null); \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --only-binary :all: \
		-c $(LOWEST)/torch.txt -e '.[test]'
	touch $@
