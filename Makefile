# `make demo` and `make test` work from a bare clone: Python 3.11 or newer, git and make are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: install demo test lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $@

demo: install
	mkdir -p demo
	$(BIN)/explorer search studies/presets/demo.toml --storage demo/explorer.db
	$(BIN)/explorer show demo --storage demo/explorer.db --html demo/front.html > /dev/null
	$(BIN)/explorer export demo --trial best --out demo/fast --storage demo/explorer.db
	$(BIN)/explorer certify demo/fast --count 48
	@echo
	@echo "chart:      demo/front.html"
	@echo "pictures:   demo/explorer-pictures/"
	@echo "plan:       inherit(pipe, \"demo/fast\")"
	@echo "dashboard:  $(BIN)/explorer dashboard --storage demo/explorer.db"

test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build demo *.egg-info
