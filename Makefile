# syncd: `make` lists what can be made. Everything happens in a virtual environment, .venv.

VENV ?= .venv
# One more than there are cores: tests of leases and limits mostly wait.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
RESULTS := build/test-results
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

# A PYTHON on the command line is the one; one from the environment is tried first.
OTHERS := python3.14 python3.13 python3.12 python3.11 python3
PYTHONS := $(PYTHON) $(if $(filter command,$(origin PYTHON)),,$(OTHERS))

# What is installed, for running syncd and for working on it: a stamp each.
INSTALLED := $(VENV)/.installed
EQUIPPED := $(VENV)/.equipped

# Where Python is told to write no bytecode, every process compiles all of syncd anew: 0.2 s.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types clean schemas
.PHONY: ruff async-rules imports spelling tests over-server over-pooler
.PHONY: bench bench-all bench-effects bench-peers soak test-chaos coverage simulate simulate-report

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'PYTHON=... names the Python of .venv (3.11 or newer); ARGS=... goes to syncd demo,'
	@echo 'and to the benchmark (--help lists what it takes).'

# --- The environment ------------------------------------------------------------------------------

venv: $(EQUIPPED)  ## make .venv and install syncd in it, with what its tests need

# Not rebuilt when it works; the stamps are older than it when it had to be made anew.
$(PY):
	@contrib/new-venv $(VENV) $(PYTHONS)

# Built by the pinned hatchling: an isolated build would fetch whatever is the newest.
$(INSTALLED): pyproject.toml constraints.txt | $(PY)
	$(PIP) install -c constraints.txt hatchling editables
	$(PIP) install -c constraints.txt --no-build-isolation -e .
	@touch $@

$(EQUIPPED): $(INSTALLED)
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev,bench]'
	@touch $@

# --- To look at it --------------------------------------------------------------------------------

demo: $(INSTALLED)  ## run syncd against a simulated upstream, with a database of its own
	$(PY) -m syncd demo $(ARGS)

# --- To check it ----------------------------------------------------------------------------------

LINT := ruff async-rules imports spelling
STEPS := $(addprefix step-,tests over-server over-pooler $(LINT) types)

# The tests wait more than they work: what only reads the sources goes beside them, politely.
test: $(EQUIPPED)  ## check everything that CI checks, with what this machine has
	@rm -rf $(RESULTS) && mkdir -p $(RESULTS)
	@$(MAKE) --no-print-directory --jobs=2 $(SYNCED) $(STEPS)
	@cat $(RESULTS)/simulation.txt 2>/dev/null || true
	@$(PY) tests/what_was_skipped.py $(RESULTS); \
	! test -s $(FAILED) || { echo "failed: $$(paste -sd ' ' $(FAILED))"; exit 1; }

# What one step says stays together; `make` can do that from 4.0 on.
SYNCED := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
FAILED := $(RESULTS)/failed
POLITELY := nice -n 10

# A step that fails does not hide another one.
step-%:
	@$(POLITELY) $(MAKE) --no-print-directory $* || echo $* >> $(FAILED)

step-tests step-over-server step-over-pooler: POLITELY :=
step-over-server: step-tests
step-over-pooler: step-over-server

lint: $(LINT)  ## check style, Trio's rules, layers and spelling

ruff: $(EQUIPPED)
	$(PY) -m ruff check --quiet .
	$(PY) -m ruff format --quiet --check .

# Half a second a file: only those that ship and have something to wait for. Of the tests ruff looks
# after the rules that it has, too.
async-rules: $(EQUIPPED)
	@$(PY) -m flake8 $$(grep -rlE --include='*.py' '^ *async ' core plugins)

imports: $(EQUIPPED)
	@$(VENV)/bin/lint-imports --no-logo

spelling: $(EQUIPPED)
	$(PY) -m codespell_lib core plugins schemas tests contrib .ci Makefile pyproject.toml *.md

types: $(EQUIPPED)  ## check the types of everything, tests included
	$(PY) -m mypy core plugins schemas tests

tests: $(EQUIPPED)
	$(PY) -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal --quiet \
	    --junitxml=$(RESULTS)/tests.xml

# Watching every line takes a third of the time again.
coverage: $(EQUIPPED)  ## run the tests and say which lines none of them reaches
	$(PY) -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal --quiet --cov

# What depends on the server's release: every statement, locks and plans. The embedded server has its
# own tests, and what runs over any server alike has run by then. `make over-server SERVED=tests/runs`
# runs others.
SERVED ?= tests/store \
    $(patsubst %,tests/runs/test_%.py,absent_rows commit_unknown fencing races serve)

over-server: $(EQUIPPED)
	$(PY) tests/servers/over_server.py --missing $(RESULTS)/missing.txt -- \
	    $(PY) -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal --quiet \
	    --junitxml=$(RESULTS)/over-server.xml -m 'not own_server' \
	    --ignore=tests/store/test_embedded.py $(SERVED)

# What hops, leases and bulk writes leave in a session that others share. Left out is what looks at
# or ends its backends, which are the pooler's, and what holds more of them than it has.
POOLED := tests/store/test_hops.py tests/store/test_sqlstates.py tests/store/test_keeper.py \
    tests/store/test_passes.py tests/store/test_bulk_poison.py tests/store/test_bulk_counts.py \
    tests/runs/test_races.py tests/runs/test_database_slow.py

over-pooler: $(EQUIPPED)
	$(PY) tests/servers/over_pooler.py --missing $(RESULTS)/missing-pooler.txt -- \
	    $(PY) -m pytest --numprocesses 2 --quiet --junitxml=$(RESULTS)/over-pooler.xml \
	    -m 'not direct and not own_server' $(POOLED)

# --- To measure it --------------------------------------------------------------------------------

bench: $(EQUIPPED)  ## measure syncd beside a hand-written program (25 minutes at most)
	$(PY) tests/bench/run.py --set bench $(ARGS)

bench-all: $(EQUIPPED)  ## measure everything; goes on where it was interrupted
	$(PY) tests/bench/run.py --set all --resume $(ARGS)

bench-effects: $(EQUIPPED)  ## measure what it costs that rows have effects (5 minutes)
	$(PY) tests/bench/effect_costs.py $(ARGS)

bench-peers: $(EQUIPPED)  ## measure syncd beside dlt, installed in .venv-peers
	$(PY) -m venv .venv-peers
	.venv-peers/bin/pip --disable-pip-version-check --quiet install -r tests/bench/peers.txt
	$(PY) tests/bench/run.py --set peers --resume $(ARGS)

test-chaos: $(EQUIPPED)  ## kill, stop and cut off eight daemons for three minutes
	SYNCD_CHAOS_SECONDS=180 SYNCD_CHAOS_DAEMONS=8 SYNCD_CHAOS_STORES=1000 SYNCD_CHAOS_LEASE_SECONDS=5 \
	    $(PY) -m pytest --quiet -p no:cacheprovider tests/runs/test_chaos.py $(ARGS)

soak: $(EQUIPPED)  ## run syncd at full rate for 20 minutes, and see that nothing grows
	$(PY) tests/soak/soak.py $(ARGS)

# --- To simulate it -------------------------------------------------------------------------------

SEEDS ?= 0-999
WORLD ?= any

simulate: $(EQUIPPED)  ## let worlds live that are drawn from SEEDS (17, 0-999, 3,5,8-10), of a WORLD (any, chain)
	$(PY) tests/simulation/simulate.py $(SEEDS) --world $(WORLD) $(ARGS)

simulate-report: $(EQUIPPED)  ## say what is reached against limits, in virtual time (15 minutes at most)
	$(PY) tests/simulation/simulate_report.py $(ARGS)

# --- To keep it in order --------------------------------------------------------------------------

schemas: $(EQUIPPED)  ## write the generated JSON Schemas anew
	$(PY) -m syncd.config.schema > schemas/syncd_schemas/config.schema.json
	$(PY) -m syncd.event_schema > schemas/syncd_schemas/events.schema.json

clean:  ## remove .venv and whatever the tools keep
	rm -rf $(VENV) .venv-peers build dist .coverage .coverage.* .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
