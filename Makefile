# Two commands do all the set-up: `make quickstart` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export TOKENIZERS_PARALLELISM = false

.PHONY: quickstart test check format clean

quickstart: $(VENV)/installed
	HF_HUB_OFFLINE=1 $(BIN)/medembed run recipes/quickstart/model.yaml

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MedEmbed needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[quickstart,dev]'
	touch $@

clean:
	rm -rf $(VENV) runs hub dist
