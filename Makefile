# `make demo` and `make test` each work alone on a fresh machine: Python 3.11, gcc, the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: demo test coverage lint types docs wheel bench install models clean clients audit

demo: $(RUN)
	$(BIN)/pathasst demo

test: $(DEV) models
	$(BIN)/python -m pytest -n 2 --dist loadfile

coverage: $(DEV) models
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry src

types: $(DEV)
	$(BIN)/mypy

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The wheel, tried in an empty environment: what it declares suffices, and models, recipes and examples are inside.
wheel: $(DEV)
	rm -rf dist out/wheel
	$(BIN)/hatchling build -t wheel
	$(PYTHON) -m venv out/wheel
	out/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd out/wheel && bin/python -m pip check && bin/pathasst doctor
	cd out/wheel && bin/python -I -c "import pathasst as pa; from skimage.data import immunohistochemistry as ihc; \
	  print(pa.tools.ki67_cells(ihc(), um_per_px=0.5).numbers)"

bench: $(DEV) models
	$(BIN)/python benchmarks/run.py

install: $(DEV)

# Other libraries' clients for tests/serve/test_clients.py; their versions of `openai` exclude each other.
clients:
	$(PYTHON) -m venv out/clients-langchain
	out/clients-langchain/bin/pip install --quiet langchain-openai~=1.7 litellm~=1.110
	$(PYTHON) -m venv out/clients-llamaindex
	out/clients-llamaindex/bin/pip install --quiet llama-index-llms-openai-like~=0.8 instructor~=1.17

# Known holes of what is installed. An index without a database of vulnerabilities (a mirror) fails here, too: nothing was checked.
audit: $(DEV)
	$(BIN)/pip-audit --progress-spinner off --skip-editable --strict

models: $(RUN)
	$(BIN)/pathasst models pull
	-$(BIN)/pathasst slide parts

$(RUN): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[slides,llamacpp]'
	touch $(RUN)

$(DEV): $(RUN)
	$(PIP) -e '.[slides,llamacpp,scale,dev]'
	touch $(DEV)

clean:
	rm -rf $(VENV) out
