# make demo   sets everything up and runs the main job on the shipped model
# make test   sets everything up and runs all checks and tests, as CI does
# make check  format, lint, types, rooms (a part of make test)
# make docs   writes the generated pages of docs/ and builds the site from them into site/

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test slow check docs clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/steerclear compare "portrait photo of a man" --negative-prompt "mustache" --outdir out/demo

test: $(READY) check
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check src tests docs/hooks.py
	$(BIN)/ruff check src tests docs/hooks.py
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_rooms.py

docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m steerclear.cli.docs docs
	$(BIN)/python tests/features.py docs/steer-your-pipeline.md
	$(BIN)/python tests/mixture_tables.py docs/exact-worlds.md
	$(BIN)/python tests/forget_tables.py docs/forgetting.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:
	rm -rf $(VENV) out build dist site .pytest_cache .ruff_cache .mypy_cache
