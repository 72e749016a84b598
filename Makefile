# Everything a person types. `make quickstart` and `make test` install what they need on first use.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
VENV_STAMP := $(VENV)/.installed
# Tests start Python dozens of times; where no bytecode is kept, each time compiles all of torch again.
export PYTHONDONTWRITEBYTECODE :=

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

quickstart: $(VENV_STAMP) ## Train, export, evaluate and serve a policy: a few minutes, no cluster needed
	$(PYTHON) -m training.run experiment=quickstart

test: $(VENV_STAMP) ## Run the tests that need no cluster
	$(PYTHON) -m pytest -q -m "not cluster and not kind" -n auto --maxprocesses 2 --dist loadfile --durations 25

lint: $(VENV_STAMP) ## Check style, types and the layers between modules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench-simulator: $(VENV_STAMP) ## Measure the simulator's speed: a table, and benchmarks/results/simulator.json
	$(PYTHON) -m benchmarks.simulator

bench-serving: $(VENV_STAMP) ## Measure how long answers take, beside a server that does nothing (gcc): benchmarks/results/serving.json
	$(PYTHON) -m benchmarks.serving

bench-scheduler: cluster-tools ## Measure what an extender costs a real kube-scheduler on 5,000 nodes (needs gcc, a quiet machine)
	STOWAGE_KUBERNETES=$(KUBERNETES) $(PYTHON) -m benchmarks.scheduler

soak: cluster-tools ## Ask for 30 minutes, 300 times a second, while nodes, pods, policies and the API server change
	STOWAGE_KUBERNETES=$(KUBERNETES) $(PYTHON) -m benchmarks.soak

cycle: cluster-tools ## From recorded decisions to the next policy in service: on a local cluster, or on yours by CYCLE='KEY=VALUE …'
	$(PYTHON) -m $(if $(CYCLE),training.cycle run $(CYCLE),tests.cluster.cycle_cluster --kubernetes $(KUBERNETES) $(CYCLE_SETTINGS))

fuzz: $(VENV_STAMP) ## Send 100,000 mutated requests to each verb and gRPC method
	$(PYTHON) -m tests.extender.fuzz

demo: $(VENV_STAMP) ## Show a simulated cluster, policies side by side and past runs in a browser (loopback only)
	$(PYTHON) -m training.demo

browser: ## Install Debian's Chromium, which the tests of the demo drive, where there is none (root, Debian)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium >/dev/null; }

pictures: $(VENV_STAMP) ## Take the pictures of the demo in docs/pictures anew
	STOWAGE_PICTURES=docs/pictures $(PYTHON) -m pytest -q tests/training/demo/test_browser.py

# Not with --quiet: it drops warnings before --strict counts them.
docs: $(VENV_STAMP) ## Build the site of all pages, with the API reference, into dist/docs; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

proto: $(VENV_STAMP) ## Generate the Python code of proto/
	$(PYTHON) proto/generate.py

install: $(VENV_STAMP) ## Set up the virtual environment only

# uv installs the versions of constraints.txt, from a cache where it can: a second checkout takes seconds.
$(VENV_STAMP): pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 is $$(python3 -V 2>&1), Stowage needs Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) -m pip --version >/dev/null 2>&1 || python3 -m venv --clear $(VENV)
	$(PYTHON) -m pip install -q --disable-pip-version-check -c constraints.txt uv
	$(VENV)/bin/uv pip install -q --python $(PYTHON) -c constraints.txt -e '.[train,distributed,mlflow,demo,docs,tracing,dev]'
	touch $@

clean: ## Remove the virtual environment and what tools left behind; runs/ is kept
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

kind: $(VENV_STAMP) ## Try the chart on a kind cluster of its own (Docker or podman, kind, kubectl, helm), and delete it
	$(PYTHON) -m training.kind $(KIND_ARGUMENTS)

include tests/cluster/cluster.mk

.PHONY: help quickstart test lint bench-simulator bench-serving bench-scheduler soak cycle fuzz demo browser pictures docs proto install clean
