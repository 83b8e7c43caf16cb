# Tiyu Lakehouse. `make help` lists the targets. Needs python3.11, python3.11-venv and make; nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SIZE ?= small
SEED ?= 20260101
PYTEST_ARGS ?=
# Three test workers on two processors: the suite starts real servers and databases and often waits for them.
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup setup-dev demo demo-tomorrow test test-unit check test-browser test-fresh test-faults test-canary test-tomorrow compose-check clean clean-all test-lineage test-how-to bench-stream bench-ingest test-replay

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

setup: ## build both environments from the hashed locks (idempotent)
	@$(PYTHON) deploy/bootstrap.py

setup-dev: ## the same, with the development tools
	@$(PYTHON) deploy/bootstrap.py --dev

demo: setup ## run the whole platform on a simulated city: make demo [SIZE=small] [DAY=0] [HEADLESS=1]
	@exec $(BIN)/python -m deploy.demo --size $(SIZE) --seed $(SEED) $(if $(DAY),--day $(DAY)) $(if $(filter-out 0,$(HEADLESS)),--headless)

demo-tomorrow: setup ## one more day, with a demo up or not: make demo-tomorrow [HEADLESS=1]
	@exec $(BIN)/python -m deploy.tomorrow --size $(SIZE) --seed $(SEED) $(if $(filter-out 0,$(HEADLESS)),--headless)

test: setup-dev ## unit, integration, data and policy tests
	@$(PYTEST) tests/unit tests/integration tests/data tests/policy tests/replay -n 3 --dist loadfile $(PYTEST_ARGS)

test-unit: setup-dev ## unit tests only (seconds, no network)
	@$(PYTEST) tests/unit $(PYTEST_ARGS)

check: setup-dev ## formatting, types, layering, SQL style, catalogue, compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint dbt_project/models
	$(BIN)/tiyu catalog check
	$(BIN)/python -m deploy.compose_check

compose-check: setup-dev ## static validation of docker-compose.yml
	$(BIN)/python -m deploy.compose_check

test-browser: setup-dev ## cockpit and pages in headless Chromium (needs: apt-get install -y chromium fonts-noto-cjk)
	@$(PYTEST) tests/browser $(PYTEST_ARGS)

test-tomorrow: setup-dev ## fourteen days of a demo, compared with one begun at that day and with the truth
	@$(PYTEST) tests/tomorrow $(PYTEST_ARGS)

test-lineage: setup-dev ## recall of the column lineage: every column of every model under the oracle (at most 10 minutes)
	@$(PYTEST) tests/lineage -n 2 --dist loadgroup $(PYTEST_ARGS)

test-faults: setup-dev ## twenty seeded SIGKILLs of the demo, full disk, read-only lake, broken ledger; then compare row for row
	@$(PYTEST) tests/faults $(PYTEST_ARGS)

test-how-to: setup-dev ## every how-to page carried out (make test takes a sample of them)
	@TIYU_HOW_TO=all $(PYTEST) tests/integration/how_to -n 2 --dist load $(PYTEST_ARGS)

bench-ingest: setup-dev ## speed and memory of the ingest beside its peers, in one run: make bench-ingest [PARTS="samples fit memory growth small"] [ARGS=…]
	@$(BIN)/python -m benchmarks.ingest $(if $(PARTS),--parts $(PARTS)) $(ARGS)

bench-stream: setup-dev ## messages of a broker to rows that readers see, with Airflow beside it (needs: mosquitto)
	@$(BIN)/python -m benchmarks.stream $(BENCH_ARGS)

test-replay: setup-dev ## 200 random histories: mend and replay equals the rule had been right from the start
	@rm -rf build/replay
	@TIYU_HISTORIES=$${TIYU_HISTORIES:-200} $(PYTEST) tests/replay -n 2 --dist load $(PYTEST_ARGS) || failed=$$?; \
	$(BIN)/python -m tests.replay.results $${TIYU_HISTORIES:-200}; exit $${failed:-0}

test-canary: setup-dev ## invented persons in every source, every byte of every surface searched
	@TIYU_CANARY=$${TIYU_CANARY:-layers} $(PYTEST) tests/policy/canary -v $(PYTEST_ARGS)

test-fresh: ## as root: demo and tests as an ordinary user in a minimal Debian 12, then the demo without network (needs: debootstrap)
	@$(PYTHON) deploy/fresh.py $(FRESH_ARGS)

clean: ## remove the state of the demo and the caches (keeps the environments)
	@$(PYTHON) -c "import shutil,sys; [shutil.rmtree(p, ignore_errors=True) for p in sys.argv[1:]]" var build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache dbt_project/target dbt_project/logs

clean-all: clean ## remove the environments too
	@rm -rf .venv .venv-cockpit .venv-bench .tools
