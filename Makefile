# Everything a newcomer types. Each target sets up what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= .demo
LOOP ?= .loop

.PHONY: demo loop test check lint types setup bench browser postgres clean screenshots

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Curator needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,llamacpp,postgres,ray,dev]'
	@touch $@

demo: setup
	@$(BIN)/curator init --home $(DEMO) --sample
	@$(BIN)/curator up --home $(DEMO) --open-as demo

loop: setup
	@$(BIN)/curator loop --home $(LOOP)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/pyright

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || tools/install_chromium

postgres:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || tools/install_postgres

check: lint types test browser postgres
	$(BIN)/pytest -m 'slow or browser or postgres'

bench: setup
	@for file in bench/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) $(DEMO) $(LOOP)
