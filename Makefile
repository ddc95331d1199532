# Everything a person or CI runs. Needs Python 3.11+ and PyPI; nothing here needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests mostly wait, for processes and time-outs: twice as many at once as there are cores.
TESTS ?= -n $(shell echo $$((2 * $$($(PYTHON) -c 'import os; print(os.cpu_count() or 1)'))))
MUSIC ?=
DATA ?=
PORT ?=

# uv from the PATH, else from PyPI in an environment of its own.
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)-uv/bin/uv)

# Where this is set, every process compiles mus and every test worker rewrites all tests, each time again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup browser run production test check ci format bench bench-check chaos screenshots back-lock clean

setup: $(VENV)/.ready

$(VENV)-uv/bin/uv:
	$(PYTHON) -m venv $(VENV)-uv
	$(VENV)-uv/bin/pip install --quiet uv

# What mus is built from, and what compiles libraries.
BUILT_FROM := $(wildcard backend/src/mus/library/*.c backend/src/mus/library/plain_tags/*) backend/src/mus/cli/bare_libraries.py

$(VENV)/.ready: pyproject.toml uv.lock $(BUILT_FROM) | $(filter $(VENV)-uv/bin/uv,$(UV))
	$(UV) sync --quiet --frozen --compile-bytecode --python $(PYTHON)
	$(BIN)/python -P -m mus.cli.bare_libraries
	@touch $@

run: setup
	@$(BIN)/mus up $(if $(MUSIC),--music "$(MUSIC)") $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port $(PORT))

# All of mus under supervisord, as in the container; the embedded Valkey in DragonflyDB's place.
production: setup
	@PATH="$(abspath $(BIN)):$$PATH" $(if $(MUSIC),MUS_MUSIC_DIR="$(MUSIC)") $(if $(DATA),MUS_DATA_DIR="$(DATA)") \
	  $(if $(PORT),MUS_PORT=$(PORT)) exec $(BIN)/python -P docker/production/entrypoint.py

# The browser of the page's tests. It comes by itself only as root on Debian and its kin; without, they are skipped.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  test -n "$$MUS_TEST_CHROMIUM" || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	    echo "No Chromium: the page's tests in a browser are skipped (apt install chromium)"; }

test: setup browser
	$(BIN)/pytest $(TESTS)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup browser
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy docker/production/*.py
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/production/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec --default-filetype yaml docker/docker-compose*
	$(BIN)/pytest $(TESTS)

ci: check

# mus next to its peers on the same files and the same broker; BENCH="first-scan --rounds 5" measures that alone.
BENCH ?=
bench: setup
	$(BIN)/python benchmarks run $(BENCH)

# Whether a few of the ratios to peers still are what benchmarks/ratios.json says; within ten minutes.
bench-check: setup browser
	$(BIN)/python benchmarks check $(BENCH)

# Thousands of jobs and scans while everything dies, freezes, forgets; then every promise is checked. A seed repeats it.
SEED ?=
chaos: setup
	cd backend/tests && ../../$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(CHAOS)

back-lock:
	$(UV) lock --upgrade

# Pictures of the page for the README, of music made up for them.
screenshots: setup browser
	cd backend/tests && ../../$(BIN)/python -m web.screenshots ../../docs/screenshots

clean:
	rm -rf $(VENV) $(VENV)-uv build backend/src/*.egg-info backend/src/mus/library/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
