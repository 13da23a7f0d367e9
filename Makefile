# PYTHON makes the virtual environment .venv; TENSORFLOW is the wheel that goes into it (see setup.py).
PYTHON ?= python3
TENSORFLOW ?= tensorflow-cpu
PYTEST_ARGS ?=
BENCH_ARGS ?= --output=benchmarks/results/all.json
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow bench lint doclint imports docs tutorial dataset clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	TFCREDIT_TENSORFLOW=$(TENSORFLOW) $(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

install: .venv/installed  ## make .venv with tfcredit and everything it needs

demo: .venv/installed  ## train a small network on the images inside the package
	$(BIN)/python run_imagenet.py --flagfile=configs/demo.cfg

test: .venv/installed  ## run the tests that take minutes at most
	$(BIN)/python -m pytest -n auto --dist loadgroup -m 'not slow' $(PYTEST_ARGS)

test-slow: .venv/installed  ## run the slow tests alone
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

bench: .venv/installed  ## measure what rules cost, for hours; BENCH_ARGS='budgets --rounds=5' asks for less
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: .venv/installed doclint imports  ## check style, formatting, docstrings and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# In an environment of its own: pydoclint's docstring_parser_fork overwrites the docstring_parser that
# tensorflow-datasets needs. Neither tool imports what it reads.
.venv/lint/installed: Makefile
	$(PYTHON) -m venv .venv/lint
	.venv/lint/bin/python -m pip install --quiet 'pydoclint>=0.8,<0.13' 'import-linter>=2.17,<2.18'
	@touch $@

doclint: .venv/lint/installed  ## check that docstrings name the arguments of their functions
	.venv/lint/bin/pydoclint --quiet tfcredit

imports: .venv/lint/installed  ## check that imports point one way, as pyproject.toml says
	.venv/lint/bin/lint-imports --no-cache --no-logo

# In an environment of its own too: it reads docstrings without importing anything.
docs: .venv/installed  ## build the site of tutorial, pages and reference in build/docs
	@test -x .venv/docs/bin/mkdocs || ($(PYTHON) -m venv .venv/docs && \
		.venv/docs/bin/python -m pip install --quiet 'mkdocs>=1.6,<2' 'mkdocs-material>=9.6,<10' \
		'mkdocstrings>=1,<2' 'mkdocstrings-python>=2,<3' 'griffelib>=2,<3' 'ruff>=0.17,<0.18')
	@mkdir -p build
	$(BIN)/python run_imagenet.py --help >build/flags.txt
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict
	@echo "Read it, with search: $(BIN)/python -m http.server --directory build/docs"

tutorial: .venv/installed  ## run docs/tutorial.ipynb from the top and store what its cells give
	$(BIN)/python tools/run_tutorial.py

dataset: .venv/installed  ## make the embedded images again (needs the Debian package dataset-fashion-mnist)
	$(BIN)/python tools/make_embedded_dataset.py

clean:  ## remove .venv and what builds leave behind
	rm -rf .venv build dist *.egg-info
