# `make demo` and `make test` each work alone on a fresh machine: Python 3.11, gcc, the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types install models bench clean

demo: $(STAMP)
	$(BIN)/pathasst demo

test: $(STAMP) models
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

install: $(STAMP)

models: $(STAMP)
	$(BIN)/pathasst models pull

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[slides,llamacpp,scale,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) out
