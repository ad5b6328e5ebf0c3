# make demo: simulate, learn, forecast, compare.   make test: every test.   make check: format, lint, types.
# make test-escnn: installs escnn too, and runs the tests that need it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt

.PHONY: demo test test-escnn check install clean

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

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): torch and friends, some 300 MB of wheels; a few minutes the first time"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
