# make demo         simulate, learn, forecast, compare
# make check        formatting, lint, types, spelling, docstrings
# make test         every test that is quick
# make test-slow    the full sweep of what `make test` covers pairwise; PART=0/2: the first half of it
# make test-escnn   installs escnn too, and runs the tests that need it
# make test-well    installs the_well too, and reads what is exported for it with its own classes
# make docs         the site, into build/docs
# make test-docs    runs what the pages and notebooks show, builds the site and looks at it in a browser (Chromium)
# make notebooks    runs the notebooks and stores them with their output; NOTEBOOK=notebooks/06*: only that one
# make dist         a wheel and a source distribution, checked, in dist/
# make test-wheel   installs that wheel into an empty environment and runs a miniature experiment with it
# make install      only the environment, .venv; make install-peers: also the packages that results are compared with
PYTHON ?= python3
VENV ?= .venv
PART ?= 0/1
NOTEBOOK ?= notebooks/*.ipynb
BIN = $(VENV)/bin

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt

.PHONY: demo check test test-slow test-escnn test-well docs test-docs notebooks dist test-wheel install install-peers clean

demo: install
	$(BIN)/fluidsurrogate run experiments/demo.toml

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy solvers fluidsurrogate
	$(BIN)/codespell
	$(BIN)/python tests/check_docstrings.py

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

test-slow: install
	$(BIN)/python -m pytest -n 2 --max-worker-restart 0 -m slow --part $(PART)

test-escnn: install
	$(PIP) -e ".[test,escnn]"
	$(PIP) --no-deps escnn
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/escnn

# the_well pins an old fsspec, which none of what is used here needs; torch, h5py, PyYAML and fsspec are there.
test-well: install
	$(PIP) --no-deps the_well einops
	$(BIN)/python -m pytest tests/well

docs: $(VENV)/.installed-docs
	rm -rf build/docs
	$(BIN)/python -m sphinx -E -W --keep-going -q -d build/doctrees docs build/docs
	@echo "The site is in build/docs: open build/docs/index.html"

test-docs: $(VENV)/.installed-docs
	$(BIN)/python -m pytest -n 2 --dist worksteal -m docs tests/docs

notebooks: $(VENV)/.installed-docs
	$(BIN)/python docs/store_notebooks.py $(NOTEBOOK)

dist: install
	rm -rf dist
	$(PIP) -e ".[dist]"
	$(BIN)/python -P -m build
	$(BIN)/python -m twine check --strict dist/*

test-wheel: dist
	PYTHON="$(PYTHON)" .ci/test_wheel dist/*.whl

install: $(VENV)/.installed

# Exponax and xskillscore: the solver and the ensemble metrics are checked against them; no user needs them. neuraloperator
# has the FNO, a baseline; it also asks for wandb and more, none of which the network needs, so that it comes without its
# dependencies, and opt-einsum, requests and scipy come by name.
install-peers: install
	$(PIP) -e ".[test,peers]" opt-einsum requests scipy
	$(PIP) --no-deps neuraloperator tensorly tensorly-torch

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
	rm -rf $(VENV) runs build dist docs/api/generated docs/notebooks *.egg-info
