# PYTHON makes the virtual environment .venv; TENSORFLOW is the wheel that goes into it (see setup.py).
PYTHON ?= python3
TENSORFLOW ?= tensorflow-cpu
PYTEST_ARGS ?=
BENCH_ARGS ?= --output=benchmarks/results/all.json
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow bench lint doclint dataset clean

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
	$(BIN)/python -m pytest -n auto -m 'not slow' $(PYTEST_ARGS)

test-slow: .venv/installed  ## run the slow tests alone
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

bench: .venv/installed  ## measure what rules cost, for hours; BENCH_ARGS='bars --rounds=5' asks for less
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: .venv/installed doclint  ## check style, formatting and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# In an environment of its own: pydoclint's docstring_parser_fork overwrites the docstring_parser that
# tensorflow-datasets needs.
doclint:  ## check that docstrings name the arguments of their functions
	@test -x .venv/doclint/bin/pydoclint || ($(PYTHON) -m venv .venv/doclint && \
		.venv/doclint/bin/python -m pip install --quiet 'pydoclint>=0.8,<0.13')
	.venv/doclint/bin/pydoclint --quiet tfcredit

dataset: .venv/installed  ## make the embedded images again (needs the Debian package dataset-fashion-mnist)
	$(BIN)/python tools/make_embedded_dataset.py

clean:  ## remove .venv and what builds leave behind
	rm -rf .venv build dist *.egg-info
