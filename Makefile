# Everything that one does with this repository; `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
WORKERS ?= auto
# Tests that run side by side slow each other down: what one waits for has three times as long.
SCALE := $(or $(FRESHET_TEST_SCALE),3)

# What is compiled once is not compiled again by each of the thousand processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/run ## start the demos on http://127.0.0.1:8000 (ARGS="--port 9000")
	$(BIN)/freshet demo $(ARGS)

.PHONY: test
test: ## set up what the tests need, then run every check and every test (ARGS="-k recovery" WORKERS=2)
	@$(MAKE) --jobs=2 --output-sync=line tools check collected
	FRESHET_TEST_SCALE=$(SCALE) $(BIN)/pytest --numprocesses $(WORKERS) $(ARGS)

.PHONY: check
check: $(VENV)/dev ## format, lint, types, architecture; takes seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src
	$(BIN)/pytest --quiet tests/test_architecture.py

.PHONY: collected
collected: $(VENV)/dev
	@echo "Compiling the tests, before all workers do it at once"
	@$(BIN)/pytest --numprocesses 0 --collect-only --quiet >/dev/null

.PHONY: audit
audit: $(VENV)/audit/made ## look for known vulnerabilities in what is pinned, where a source of them can be reached
	@$(PYTHON) tests/tools/audit.py $(VENV)/audit/bin/pip-audit requirements/*.txt

.PHONY: format
format: $(VENV)/dev ## format the code and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(VENV)/dev ## measure fan-out, clients, memory, engines, storms, broken connections (ARGS=--write)
	$(BIN)/python -m bench.fanout $(ARGS)
	$(BIN)/python -m bench.clients $(ARGS)
	$(BIN)/python -m bench.loads $(ARGS)
	$(BIN)/python -m bench.memory $(ARGS)
	$(BIN)/python -m bench.engines $(ARGS)
	$(BIN)/python -m bench.tls $(ARGS)
	$(BIN)/python -m bench.rooms $(ARGS)
	$(BIN)/python -m bench.runs $(ARGS)
	$(BIN)/python -m bench.storm $(ARGS)
	$(BIN)/python -m bench.jitter $(ARGS)
	$(BIN)/python -m bench.observing $(ARGS)
	$(BIN)/python -m bench.rates $(ARGS)

.PHONY: peers
peers: $(VENV)/dev $(VENV)/peers/made ## Freshet beside uWebSockets, ws, Go, NATS and others, four minutes (ARGS="--write", "--only Freshet,npm")
	$(BIN)/python -m bench.versus $(ARGS)

.PHONY: crowd
crowd: $(VENV)/dev ## a hundred thousand clients on this machine, ten minutes at most (ARGS="--sizes 1000,10000 --write")
	$(BIN)/python -m bench.crowd $(ARGS)

.PHONY: chaos
chaos: $(VENV)/dev ## faults under load, minutes: what arrived, which gaps were notified, what was lost (ARGS="--rounds 3 --only nats")
	$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: suites
suites: tools $(VENV)/dev ## the public suites of other projects, on every engine, minutes (make test runs the longest on one)
	TEST_SUITES=all FRESHET_TEST_SCALE=$(SCALE) $(BIN)/pytest --numprocesses $(WORKERS) tests/suites $(ARGS)

.PHONY: attack
attack: $(VENV)/dev ## honest clients while others flood, stall and churn, minutes: latency, losses, memory (ARGS="--only ping --write")
	$(BIN)/python -m bench.attack $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/dev ## a million inputs for each thing that takes bytes (ARGS="--inputs 10000 --only http --seed 1")
	$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: rooms
rooms: $(VENV)/dev ## count in rooms while their owners are killed, paused, cut off, minutes: is anything lost, or done twice? (ARGS="--only nats")
	FRESHET_TEST_SCALE=$(or $(FRESHET_TEST_SCALE),4) $(BIN)/python -m tests.rooms $(ARGS)

.PHONY: runs
runs: $(VENV)/dev ## 200 runs with five viewers each that are cut and come late, while owners are paused and killed, minutes (ARGS=50)
	FRESHET_TEST_RUNS=$(or $(ARGS),200) FRESHET_TEST_SCALE=$(or $(FRESHET_TEST_SCALE),4) \
		$(BIN)/pytest --timeout 3600 tests/runs/test_ledger.py

.PHONY: autobahn
autobahn: $(VENV)/dev ## the Autobahn suite against our WebSocket; needs CPython 2.7
	$(BIN)/python tests/autobahn/run.py $(ARGS)

.PHONY: frontend
frontend: ## build frontend/ into the static files of the package; needs Node
	cd frontend && npm ci --no-audit --no-fund && npm run build && npm run build:admin

.PHONY: proto
proto: ## generate the Protobuf messages from client.proto anew
	$(PYTHON) -m venv $(VENV)/proto
	$(VENV)/proto/bin/python -m pip --disable-pip-version-check --quiet install grpcio-tools==1.74.0 'setuptools<80'
	$(VENV)/proto/bin/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src \
		src/freshet/dialects/centrifuge/client.proto

.PHONY: docs
docs: $(VENV)/dev ## build the documentation into build/docs, every link checked (ARGS=serve shows it while you write)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build --strict --quiet)

.PHONY: tools
tools: $(VENV)/made ## install what the tests need beside Python's packages: system packages, npm clients
	@tests/tools/setup.sh

# The environments. `run` holds what a user gets who installs the package; `dev` adds the tests and the checks.

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Freshet needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/made requirements/build.txt requirements/run.txt pyproject.toml
	@echo "Setting up $(VENV), once: about a minute"
	@$(BIN)/python -m pip --disable-pip-version-check install --require-hashes -r requirements/build.txt -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(VENV)/made requirements/build.txt requirements/dev.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/build.txt -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/run $@

$(VENV)/peers/made: $(VENV)/made bench/peers/requirements.txt
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip --disable-pip-version-check --quiet install -r bench/peers/requirements.txt
	@touch $@

$(VENV)/audit/made: requirements/audit.txt
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/audit.txt
	@touch $@

COMPILE := $(VENV)/pin/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header
PIN := $(COMPILE) pyproject.toml

.PHONY: pins
pins: ## write requirements/*.txt anew from pyproject.toml (ARGS="--upgrade")
	$(PYTHON) -m venv $(VENV)/pin
	$(VENV)/pin/bin/python -m pip --disable-pip-version-check --quiet install uv==0.13.9
	$(PIN) $(ARGS) --output-file requirements/run.txt
	$(PIN) $(ARGS) --extra gateway --extra jwks --extra nats --extra otel --extra postgres --extra redis --extra webhooks --constraint requirements/run.txt --output-file requirements/image.txt
	$(PIN) $(ARGS) --extra dev --constraint requirements/run.txt --output-file requirements/dev.txt
	echo 'hatchling editables' | tr ' ' '\n' | $(COMPILE) $(ARGS) --constraint requirements/dev.txt --output-file requirements/build.txt -
	echo pip-audit | $(COMPILE) $(ARGS) --output-file requirements/audit.txt -

.PHONY: clean
clean: ## remove what was installed, built or cached
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/node/node_modules examples/react/node_modules examples/use_chat/node_modules frontend/node_modules
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
