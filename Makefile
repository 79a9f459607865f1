# Needs Python 3.9 or newer with venv, and make. Everything is in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait as well, so two cores have time for three.
JOBS ?= 3
# A file has its fixtures once; tests/conftest.py gives the order.
DIST := --dist loadfile --no-loadscope-reorder
BRIDGE := ansible_rulebook/ha/engine/java/build.py

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs reference bench chaos oracle bridge bridge-check venv clean
.PHONY: dist release installs
.PHONY: screenshots
# Two extras are not to be installed into one environment at a time.
.NOTPARALLEL:

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/'

demo: $(VENV)/.embedded ## two workers, a killed leader, the takeover
	$(BIN)/ansible-rulebook-ha demo $(DEMO_ARGS)

test: $(VENV)/.test ## all tests (PYTEST_ARGS="-k name" for some)
	$(BIN)/python -m pytest -n $(JOBS) $(DIST) $(PYTEST_ARGS)

lint: $(VENV)/.test $(VENV)/.lint ## ruff, mypy --strict, texts and pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_text.py

docs: $(VENV)/.docs ## the site of docs/, in build/docs
	$(BIN)/sphinx-build -q -E -n -W --keep-going docs build/docs
	@echo build/docs/index.html

reference: $(VENV)/.test ## write the tables of docs/ that the code knows
	$(BIN)/python tools/reference.py

bench: $(VENV)/.bench ## takeover times, statements, events per second
	PYTHONPATH=tools $(BIN)/python -m bench $(BENCH_ARGS)

chaos: $(VENV)/.test ## random faults, then a checker (CHAOS_ARGS="--seed 1")
	PYTHONPATH=tools $(BIN)/python -m chaos $(CHAOS_ARGS)

oracle: $(VENV)/.test ## recovery compared with no failover (ORACLE_ARGS)
	PYTHONPATH=tools $(BIN)/python -m oracle $(ORACLE_ARGS)

bridge: $(VENV)/.embedded ## compile the engine bridge (Debian's JDK 17)
	$(BIN)/python $(BRIDGE)

bridge-check: $(VENV)/.embedded ## whether the jar is what its sources give
	$(BIN)/python $(BRIDGE) --check

dist: $(VENV)/.release ## build wheel and sdist, and check them
	$(BIN)/python tools/release.py --draft

release: $(VENV)/.release ## the same for a tagged commit; publishes nothing
	$(BIN)/python tools/release.py

installs: $(VENV)/.release ## install dist/*.whl with pip, uv, pipx (PYTHONS)
	$(BIN)/python tools/installs.py $(PYTHONS)

screenshots: $(VENV)/.test ## pictures of the page (needs Chromium)
	$(BIN)/python tools/screenshots.py

venv: $(VENV)/.embedded ## only install what the demo and the workers need

clean: ## remove the environment and what tools left
	rm -rf $(VENV) $(VENV).lock .tox build dist .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# pyproject.toml says what is needed, so a newer one installs again.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --editable '.[$*]'
	@touch $@
