# Everything runs in .venv, which the first target that needs it makes. PYTHON is what makes it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test soak lint types layers bench clean

demo: $(READY)
	$(BIN)/stratus demo

# All that decides whether a change is right: below 10 minutes on 2 cores.
test: $(READY)
	$(BIN)/pytest -n 2 -m "not soak" -rs --durations=10 --junitxml=.pytest_cache/tests.xml

# The long runs: minutes to an hour.
soak: $(READY)
	$(BIN)/pytest -m soak -rs --timeout=3600 --junitxml=.pytest_cache/soak.xml

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy src tests bench

layers: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python bench/publish.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@
