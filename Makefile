# Two commands for a fresh machine: `make serve` runs the node, `make test` runs every test.
# Each sets up what it needs: a virtual environment with the locked versions and, for the tests, the
# peers that Debian packages (as root, or through sudo).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Processes that run the tests: one more than two cores, for many tests wait for peers and timeouts.
TESTERS ?= 3
# One thread of numbers in each: threads of OpenMP that wait for one another on busy cores spin, which
# made a training of the tests five times slower. A node's workers choose their threads by themselves.
test coverage: export OMP_NUM_THREADS = 1
test coverage: export OPENBLAS_NUM_THREADS = 1
# What `make serve` installs: torch where an NVIDIA driver answers, else light, which brings ONNX Runtime alone.
# What was installed by hand stays.
RUNTIME ?= $(if $(wildcard /proc/driver/nvidia/version /dev/dxg $(VENV)/.serve-torch),torch,light)
WORKER  := $(if $(filter torch,$(RUNTIME)),worker,$(if $(filter light,$(RUNTIME)),worker-light,\
             $(error RUNTIME=$(RUNTIME): use torch or light)))

PEERS := orthanc orthanc-dicomweb dcmtk redis-server postgresql default-jre-headless libpixelmed-java chromium

.DEFAULT_GOAL := help
.PHONY: help serve install check test coverage bench figures mutants fuzz chaos lock sbom audit-deps format docs viewer peers clean

help:  ## Show what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

serve: $(VENV)/.serve-$(RUNTIME)  ## Set up and run the node; RUNTIME=torch or light; ARGS="--config node.toml" goes to dicom-node
	@$(BIN)/dicom-node $(ARGS) serve

install: $(VENV)/.serve-$(RUNTIME)  ## Set up the node and start nothing; RUNTIME as for serve

check: $(VENV)/.dev docs  ## The gate: format, lint, types, import contracts, links of the documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev peers  ## Set up and run every test
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder --durations=25 $(ARGS)

coverage: $(VENV)/.dev peers  ## Run every test with branch coverage, which takes twice the processor time
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

bench: $(VENV)/.dev peers  ## Run the benchmarks into one table; BENCH_ONLY=receive,web chooses, BENCH_QUICK=1 tries
	@$(BIN)/python -m pytest tests/bench -q -o python_files='bench_*.py' -o timeout=3600 $(ARGS)

figures: $(VENV)/.dev  ## Write the numbers of README.md and docs anew from the JSON that the commands wrote
	@$(BIN)/python -m tests.support.figures

mutants: $(VENV)/.dev  ## Change the code of states, leases, results and the like in small ways: which do the unit tests notice?
	$(BIN)/python deploy/install-locked --editable dev mutants
	$(BIN)/python -m mutmut run $(ARGS)
	$(BIN)/python -m tests.bench.mutants

fuzz: $(VENV)/.dev peers  ## Draw 5,000 films of changed headers as DCMTK draws them, or refuse them
	DICOM_NODE_FUZZ=5000 $(BIN)/python -m pytest tests/integration/imaging/test_header_changes.py -s \
	  --hypothesis-show-statistics -o timeout=7200 $(ARGS)

chaos: $(VENV)/.dev peers  ## Harm the node for long: kills, brokers, archives, poison, damaged films, load, the clock
	$(BIN)/python -m pytest tests/chaos -s -o python_files='chaos_*.py' -o timeout=3600 $(ARGS)

format: $(VENV)/.dev  ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/bin/uv  ## Write requirements.lock from pyproject.toml, keeping versions that fit; ARGS=--upgrade takes the newest
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --universal --python-version 3.11 --no-build \
	  --generate-hashes --no-emit-index-url --annotation-style line --custom-compile-command 'make lock' \
	  -o requirements.lock $(ARGS)

sbom: $(VENV)/.dev  ## Write build/sbom.cdx.json (CycloneDX) and build/licences.md of what is installed
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
	  -o build/sbom.cdx.json $(BIN)/python
	$(BIN)/python deploy/licences build/sbom.cdx.json > build/licences.md

audit-deps: $(VENV)/.dev  ## Look for known weaknesses of the locked versions, where a database is reachable
	@deploy/audit-deps $(BIN)/pip-audit requirements.lock

docs: $(VENV)/.dev  ## Build the documents as a site, build/site/index.html, and check each link and anchor
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

viewer: $(VENV)/.dev  ## Build the film viewer's bundle from its source; Node.js comes with the environment
	cd dicom_node/web/viewer && export PATH="$(abspath $(BIN)):$$PATH" && npm ci && npm run build

peers: $(VENV)/.dev  ## Install the peers that the tests talk to (Debian, Ubuntu)
	@deploy/install-peers $(PEERS)
	@PATH="$(abspath $(BIN)):$$PATH" deploy/fetch-ohif build/ohif || echo 'OHIF cannot be fetched by npm: its test is skipped'

clean:  ## Remove the virtual environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* build *.egg-info \
	  dicom_node/web/viewer/node_modules mutants

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dicom-node needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# Not of .dev: that cannot be set up while the lock lacks what pyproject.toml asks for.
$(VENV)/bin/uv: | $(VENV)/bin/pip
	sed -n '/^uv==/,/# via/p' requirements.lock | $(BIN)/pip install --quiet --require-hashes -r /dev/stdin

$(VENV)/.serve-$(RUNTIME): pyproject.toml requirements.lock | $(VENV)/bin/pip
	@test -e $(VENV)/.dev || { echo "installing the node with $(WORKER) in $(VENV)$(if $(filter torch,$(RUNTIME)),: torch takes minutes and gigabytes); RUNTIME=torch or light decides by hand" \
	  && $(BIN)/python deploy/install-locked --editable $(WORKER) embedded; }
	@touch $@

$(VENV)/.dev: pyproject.toml requirements.lock | $(VENV)/bin/pip
	$(BIN)/python deploy/install-locked --editable dev
	@touch $@
