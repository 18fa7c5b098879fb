# `make run` and `make test` need Python 3.11, 3.12 or 3.13 and nothing else; the first call makes .venv from requirements.lock.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
CONFIG ?= configs/nano.py
WORKDIR ?= runs/nano
WORKERS ?= 2

SUPPORTED := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))
# The compiler for TPUs, for tests. It lies beside the environment: inside it, JAX would look for a TPU in every program.
HAS_LIBTPU := sys_platform == 'linux' and platform_machine == 'x86_64'
RUN := $(VENV)/bin/python -m
# uv installs several times faster than pip; --compile-bytecode because it leaves that out, and imports then take 3-4 times as long.
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python,$(RUN) pip install --quiet)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Huge pages for what XLA allocates anew in every step on a CPU (bench.levers pages); other C libraries ignore it.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help run test test-slow lint bench wheel site notebooks screenshots lock clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: $(VENV)/run.stamp  ## train the embedded default (CONFIG=..., WORKDIR=...); the same command again resumes
	$(RUN) infoprompt_jax.main --config=$(CONFIG) --workdir=$(WORKDIR)

test: $(VENV)/dev.stamp  ## the fast tests
	$(RUN) pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-slow: $(VENV)/dev.stamp  ## the tests that take minutes
	$(RUN) pytest -n $(WORKERS) --dist loadfile -m slow

lint: $(VENV)/dev.stamp  ## style, formatting, types, shell scripts
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/shellcheck --external-sources --check-sourced launch/tpu_vm.sh launch/host_run.sh launch/slurm.sh

bench: $(VENV)/dev.stamp  ## measure speed, beside torch where it is installed
	$(RUN) bench

# build/lib would bring back modules that are gone.
wheel: $(VENV)/run.stamp  ## build the package into dist/
	rm -rf build/lib build/bdist.*
	$(RUN) pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

site: $(VENV)/dev.stamp  ## build the documents into build/site; a broken link is an error
	$(RUN) sphinx --fail-on-warning --quiet -c docs -d build/doctrees . build/site
	@echo "Open build/site/index.html"

notebooks: $(VENV)/dev.stamp  ## run the notebooks on nano and mini, and store what they print
	$(VENV)/bin/python notebooks/run.py

screenshots: $(VENV)/dev.stamp  ## draw report pages with Chromium, of the runs that docs/pictures.md names
	$(VENV)/bin/python docs/figures/screenshots.py

# One set of versions for all three Pythons. torch pins its own CUDA packages, and the lock is a list of constraints: they are left out.
lock: | $(VENV)/bin/python  ## resolve the requirements anew into requirements.lock
	$(VENV)/bin/python -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --universal --upgrade --python-version 3.11 --fork-strategy fewest \
		--no-annotate --no-header requirements-dev.txt requirements-tpu.txt --output-file build/lock/pins.txt
	{ echo "# Versions known to work together on Python 3.11, 3.12 and 3.13, as constraints: pip install -c requirements.lock -r requirements.txt"; \
	  echo "# Written by make lock."; \
	  sed -E "/^(nvidia-|cuda-|triton)|== 'emscripten'/d; s/ ; sys_platform != 'emscripten'\$$//" build/lock/pins.txt; } > requirements.lock

clean:  ## remove the environment, caches and builds; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than the files they were installed from, so that each environment is installed once and again after a change.
$(VENV)/run.stamp: requirements.txt requirements.lock | $(VENV)/bin/python
	@echo "Installing into $(VENV) (3 GB, a minute or two)"
	$(INSTALL) -c requirements.lock -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(INSTALL) -c requirements.lock -r requirements-dev.txt
	$(INSTALL) -c requirements.lock --no-deps --target $(VENV)/tpu "libtpu; $(HAS_LIBTPU)" \
		|| echo "libtpu cannot be installed here: the tests that compile for TPUs will skip"
	@touch $@

$(VENV)/bin/python:
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed and '$(or $(PYTHON),python3)' is not it: install one, or name it, as in make PYTHON=/path/to/python3.11 run." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "'$(PYTHON) -m venv' failed: install Python's venv module (on Debian and Ubuntu: the package python3-venv)." >&2; exit 1; }
