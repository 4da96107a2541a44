# `make demo` shows the program, `make test` holds its promises. Both work from a fresh checkout
# that has nothing but Python 3.11 and make; everything they need goes into .venv.

PYTHON ?= $(shell if python3.11 --version >/dev/null 2>&1; then echo python3.11; else echo python3; fi)

# Test files at a time: they wait for processes, servers and disks more than they compute.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
BUILD := .build

.DEFAULT_GOAL := help
.PHONY: help demo recording test check lint types format docs bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' "$(firstword $(MAKEFILE_LIST))" | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/.installed ## run the release checklist: real tools, scripted model, no key
	@"$(BIN)/plan-execute" demo

recording: $(VENV)/.dev ## record docs/demo.svg, the picture in the README, from a real run
	"$(BIN)/python" docs/recording/record.py docs/demo.svg

test: check ## lint, types and all tests
	"$(BIN)/python" -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: lint types ## lint and types

lint: $(VENV)/.dev
	"$(BIN)/ruff" check .

# mypy needs a package's folder to bear its name, and a checkout may have any: a link has the right one.
types: $(VENV)/.dev
	@mkdir -p "$(BUILD)/types" && echo '*' >"$(BUILD)/.gitignore"
	@ln -sfn ../.. "$(BUILD)/types/plan_execute"
	cd "$(BUILD)/types" && "../../$(BIN)/mypy" --config-file ../../pyproject.toml --cache-dir ../mypy -p plan_execute

format: $(VENV)/.dev ## put the code into its usual form
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

docs: $(VENV)/.dev ## write the pages that are made of the program: docs/cli.md, llms.txt
	"$(BIN)/python" docs/generate.py

bench: $(VENV)/.dev ## measure everything and write docs/benchmarks.md; QUICK=1: small cases, nothing is kept
	"$(BIN)/python" benchmarks/run.py $(if $(QUICK),--quick)

clean: ## remove everything that make has made
	rm -rf "$(VENV)" "$(BUILD)"

$(BIN)/python:
	"$(PYTHON)" -m venv "$(VENV)"

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable .
	@touch "$@"

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@" "$(VENV)/.installed"
