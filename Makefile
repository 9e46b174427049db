# ModelPress: `make help` lists what there is. Needs Linux and Python 3.11 or newer; everything else goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PART ?=
BIN := .venv/bin
# One stamp per set of inputs: setup runs again when a lock, pyproject.toml or the place of this folder changes.
INPUTS := pyproject.toml requirements/bootstrap.lock requirements/linux.lock requirements/demo.lock
KEY := $(shell (echo '$(CURDIR)'; cat $(INPUTS)) | sha256sum | cut -c1-16)
STAMP := .venv/.modelpress-$(KEY)
PEERS := .venv-peers/.$(shell (echo '$(CURDIR)'; cat requirements/peers.lock requirements/torchao.lock) | sha256sum | cut -c1-16)

.PHONY: help setup setup-gpu demo test test-gpu check bench peers lock clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(STAMP)  ## make .venv and install the locked versions (does nothing when they are there)

$(STAMP):
	@command -v $(PYTHON) > /dev/null || { echo "error: $(PYTHON) not found; ModelPress needs Python 3.11 or newer (make PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(f"error: {sys.executable} is Python {sys.version.split()[0]}; ModelPress needs 3.11 or newer (make PYTHON=...)" if sys.version_info < (3, 11) else 0)'
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
		echo "making .venv with $$($(PYTHON) --version)"
		$(PYTHON) -m venv --clear .venv
	fi
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip > /dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	echo "installing the locked packages (about 6.5 GB on disk; half a minute once they have been downloaded)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/linux.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/demo.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -m modelpress.demo
	rm -f .venv/.modelpress-*
	touch $@

setup-gpu: setup  ## for NVIDIA GPUs: onnxruntime-gpu in the place of onnxruntime (make clean setup goes back)
	@$(BIN)/uv pip uninstall --quiet --python $(BIN)/python onnxruntime onnxruntime-gpu
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps --require-hashes -r requirements/gpu.lock
	$(BIN)/python -m modelpress doctor

demo: setup  ## distil TinyBERT on real reviews, press it, measure it, say whether it paid (installs first)
	@$(BIN)/python run.py technique=distill model=tinybert benchmark=quick
	echo
	echo "report: $$(cd -P outputs/latest && pwd)/report.html"

test: setup check  ## lint, types and the whole test suite (installs first)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

test-gpu: setup  ## the tests that need a GPU; without one they are skipped and say why
	@$(BIN)/python -m pytest -m gpu

check: setup  ## lint and types only
	@$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy --strict src

bench: setup  ## the numbers of the README (PART=name runs one part)
	@$(BIN)/python -m bench $(PART)

peers: setup $(PEERS)  ## install rival quantizers (NNCF, optimum, torchao) for make bench PART=quantization

$(PEERS):
	@echo "installing the rivals into .venv-peers (about 7 GB on disk), torchao into .venv"
	$(BIN)/python -m venv --clear --without-pip .venv-peers
	$(BIN)/uv pip install --quiet --python .venv-peers/bin/python --compile-bytecode --require-hashes -r requirements/peers.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps --require-hashes -r requirements/torchao.lock
	touch $@

lock: setup  ## resolve the ranges of pyproject.toml anew and write requirements/*.lock
	@lock() { $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$$@"; }
	lock --extra dev pyproject.toml -o requirements/linux.lock --upgrade
	lock requirements/bootstrap.in -o requirements/bootstrap.lock
	lock --no-deps requirements/demo.in -o requirements/demo.lock
	lock requirements/peers.in -o requirements/peers.lock
	lock --no-deps requirements/torchao.in -o requirements/torchao.lock
	lock --no-deps requirements/gpu.in -o requirements/gpu.lock

clean:  ## remove .venv, caches and build products (outputs/ and multirun/ stay)
	@rm -rf .venv .venv-peers dist build .mypy_cache .ruff_cache .pytest_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
