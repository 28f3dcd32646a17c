# `make demo` and `make test` are all a fresh Debian 12 with Python 3.11 and make needs.
VENV ?= .venv
PY   := $(VENV)/bin/python
PYTHON ?= python3

.PHONY: demo test check bench bench-checks bench-failover bench-ipvs simulate install clean

demo: $(VENV)/.installed
	$(VENV)/bin/hafsm demo

test: $(VENV)/.installed
	$(PY) -m pytest

check: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.installed
	$(PY) -m tests.bench

bench-checks: $(VENV)/.installed
	$(PY) -m tests.bench.checks_bench

bench-failover: $(VENV)/.installed
	$(PY) -m tests.bench.failover_bench

bench-ipvs: $(VENV)/.installed
	$(PY) -m tests.bench.ipvs_bench

# make simulate HOURS=20000 SEED=1 for a night.
simulate: $(VENV)/.installed
	$(VENV)/bin/hafsm simulate $(if $(SEED),--seed $(SEED)) --hours 4 --runs $$(( $(or $(HOURS),2000) / 4 )) --jobs $$(nproc)

install: $(VENV)/.installed

# Debian's python3 comes without ensurepip unless python3-venv is there; virtualenv from PyPI or apt fills in.
$(VENV)/.installed: pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m virtualenv $(VENV) \
	  || { rm -rf $(VENV); apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
