# Two commands set everything up on a bare machine with Python 3.11, pip and make:
#   make demo   the main job, on a photograph that is there already
#   make test   the tests
# Both are quick when set up already.

PYTHON ?= python3
BIN := .venv/bin
EXTRAS := timm,imagenet-seg,ray,supervision,hf,web,cvat,heic,parquet
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable .

.PHONY: demo test fuzz lint format docs wheel lowest sweep conformance docs-pictures label-studio clean

demo: .venv/demo
	$(BIN)/gradcut demo

# One torch thread in each of two processes: more would only fight over two cores. Each begins with half of the tests, as
# they stand in the files, so that what a file's tests share is made once, and takes from the other when it is done.
test: .venv/test .venv/datumaro/bin/datum
	OMP_NUM_THREADS=1 DATUMARO_PYTHON=$(CURDIR)/.venv/datumaro/bin/python $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

# More damaged files than the tests look at; SEED chooses others.
fuzz: .venv/test
	GRADCUT_FUZZ=200000 GRADCUT_FUZZ_SEED=$(or $(SEED),1) $(BIN)/pytest tests/test_damaged_images.py

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation's site, in site/: a warning is an error, and so is a link that leads nowhere or a file of another host.
docs: .venv/docs
	rm -rf site
	$(BIN)/python -m sphinx --builder html --fail-on-warning --quiet --fresh-env --doctree-dir .venv/doctrees docs site
	$(BIN)/python scripts/check_site.py site

# What is published: the source distribution, the wheel that is built from it, the same as from here, and the wheel in an
# environment that holds nothing else.
wheel: | $(BIN)/uv
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist
	$(BIN)/uv build --quiet --wheel --out-dir dist/tree
	$(BIN)/uv tool run --quiet --python $(BIN)/python --constraints constraints.txt twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/wheel
	$(BIN)/uv pip install --quiet --python .venv/wheel/bin/python --constraint constraints.txt dist/gradcut-*.whl
	$(BIN)/python scripts/check_wheel.py dist .venv/wheel/bin

# The tests with the lowest versions that pyproject.toml claims for gradcut and its extras; all else is the newest that fits.
lowest: .venv/lowest/installed
	OMP_NUM_THREADS=1 .venv/lowest/bin/pytest -n 2 --dist worksteal $(ARGS)

.venv/lowest/installed: pyproject.toml | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/lowest
	$(BIN)/uv pip compile --quiet --no-deps --all-extras --resolution lowest-direct --python-version 3.11 pyproject.toml \
	    --output-file .venv/lowest/constraints.txt
	$(BIN)/uv pip install --quiet --python .venv/lowest/bin/python --constraint .venv/lowest/constraints.txt \
	    --editable '.[$(EXTRAS)]' --group test
	@touch $@

# Every recipe on small networks of most of timm's families: an hour on one core. A sweep that was stopped goes on.
sweep: .venv/test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sweep.py --output runs/sweep.jsonl $(ARGS)

# Whether the map that default asks for answers where the signal is, on 60 and more of timm's architectures, and the table
# of that in docs/classifiers.md: half an hour on one core. A run that was stopped goes on.
conformance: .venv/test
	OMP_NUM_THREADS=1 $(BIN)/python tests/conformance.py --output runs/conformance.jsonl $(ARGS)

# Every picture of README.md and docs/, and docs/pictures.json, which says what each was made of; ARGS='demo page-phone'
# makes some. The web page's need a Chromium.
docs-pictures: .venv/test
	OMP_NUM_THREADS=1 $(BIN)/python docs/pictures.py $(ARGS)

# The backend with a real Label Studio, in an environment of its own: minutes, most of them its first start. Needs a Chromium.
label-studio: .venv/test .venv/label-studio/bin/label-studio
	OMP_NUM_THREADS=1 $(BIN)/python scripts/label_studio.py .venv/label-studio/bin/label-studio runs/label-studio

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/demo: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL)[web,timm]
	@touch $@

# Compiled at once: tests begin many processes, and each would compile what it imports where nothing may be written.
.venv/test: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --compile-bytecode --group test --group lint
	@touch $@ .venv/demo

.venv/docs: .venv/test
	$(INSTALL) --group docs
	@touch $@

# It asks for older versions of Pillow and pandas than gradcut's tests, so it gets an environment of its own.
.venv/datumaro/bin/datum: | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/datumaro
	$(BIN)/uv pip install --quiet --python .venv/datumaro/bin/python datumaro==1.13.12

.venv/label-studio/bin/label-studio: | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/label-studio
	$(BIN)/uv pip install --quiet --python .venv/label-studio/bin/python label-studio==1.23.2

clean:
	rm -rf .venv gradcut-demo
