# make demo: simulate, learn, forecast, compare.   make test: every test.   make check: format, lint, types.
# make test-escnn: installs escnn too, and runs the tests that need it.
# make docs: the site, into build/docs.   make test-docs: builds it and looks at it in a browser (Chromium).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt

.PHONY: demo test test-escnn check docs test-docs install clean

demo: install
	$(BIN)/fluidsurrogate run experiments/demo.toml

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-escnn: install
	$(PIP) -e ".[test,escnn]"
	$(PIP) --no-deps escnn
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/escnn

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy solvers fluidsurrogate
	$(BIN)/codespell

docs: $(VENV)/.installed-docs
	rm -rf build/docs
	$(BIN)/python -m sphinx -E -W --keep-going -q -d build/doctrees docs build/docs
	@echo "The site is in build/docs: open build/docs/index.html"

test-docs: $(VENV)/.installed-docs
	$(BIN)/python -m pytest -m docs tests/docs

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): torch and friends, some 300 MB of wheels; a few minutes the first time"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[test]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e ".[test,docs]"
	@touch $@

clean:
	rm -rf $(VENV) runs build docs/api/generated docs/notebooks *.egg-info
