# Everything runs in .venv, which the first target that needs it makes. PYTHON is what makes it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-ceph soak lint types layers bench bench-ingest bench-commit bench-mount bench-startup bench-api \
	bench-writers clean

demo: $(READY)
	$(BIN)/stratus demo

# All that decides whether a change is right: below 10 minutes on 2 cores.
test: $(READY)
	$(BIN)/pytest -n 2 -m "not soak" -rs --durations=10 --ignore=tests/ceph --junitxml=.pytest_cache/tests.xml

# The stores' tests and a publish on Ceph RadosGW; Debian's packages are installed if that is permitted.
CEPH := ceph-mon ceph-osd radosgw ceph-common
test-ceph: $(READY)
	@command -v radosgw >/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $(CEPH); } || true
	$(BIN)/pytest -n 2 -rs tests/ceph

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

# Each prints tables and writes bench/results/, in minutes on two idle cores; content is made of the files
# of this machine once and kept, see bench/data.py. More: make bench-ingest MORE=--ten-gigabytes, bench-commit
# MORE=--million; MORE=--help says what there is.
bench: bench-startup bench-ingest bench-commit bench-writers bench-mount bench-api

bench-startup bench-ingest bench-commit bench-writers bench-mount bench-api: bench-%: $(READY)
	$(BIN)/python -m bench.$* $(MORE)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	$(BIN)/python -m compileall -q src
	touch $@
