# `make help` lists the commands. They use a virtual environment of their own, built on first use.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Spinning OpenMP threads slow small networks down a hundredfold on few cores; see tt_gym/openmp.py.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 10000

.DEFAULT_GOAL := help
.PHONY: help demo test lint format install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## train a task token, compare it, film it (options: ARGS="--minutes 2")
	$(BIN)/python -m agents.demo $(ARGS)

test: lint ## what CI runs: linters, types and all tests (options: ARGS="-k strike")
	$(BIN)/python -m pytest $(ARGS)

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## let ruff correct what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED) ## only the virtual environment

$(INSTALLED): pyproject.toml tools/install.sh
	bash tools/install.sh $(VENV)
	@touch $@

clean: ## remove the virtual environment and caches; results in runs/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find tt_gym agents zoo_configs tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
