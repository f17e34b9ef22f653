# Two commands to begin with: `make demo`, `make test`. Each sets up all it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
export FACTBOOK_BROWSER ?= $(shell command -v chromium-headless-shell || command -v chromium || command -v chromium-browser || command -v google-chrome)
# Threads that wait sleep, so that whatever else runs beside the tests does not slow them.
export OMP_WAIT_POLICY ?= PASSIVE
# Tests start hundreds of processes: byte code that one has compiled serves the others.
export PYTHONDONTWRITEBYTECODE =
# Processes that test side by side, of one thread each; more than cores, since many tests wait.
WORKERS ?= 4
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help demo test quick clusters paper-smoke check format lint types contracts docs faults cluster-faults bench fashion photos dashboard stop clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(READY): pyproject.toml tested-versions.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or later is needed; set PYTHON="'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c tested-versions.txt -e '.[test,docs,check]'
	touch $(READY)

demo: $(READY)  ## from nothing to named concepts, on small synthetic images
	$(BIN)/factbook run demo
	$(BIN)/factbook show shapes-names
	$(BIN)/factbook show shapes-logit-names
	@echo
	@echo "The datasets lie under artifacts/; '$(BIN)/factbook path shapes-names' prints one's path."
	@echo "Open the dashboard:  $(BIN)/factbook dashboard"
	@echo "Stop the database:   $(BIN)/factbook mongo stop"

photos: $(READY)  ## a network's 1,000 logits on real photographs, as neurons of known concept
	$(BIN)/factbook run photos

fashion: $(READY)  ## the whole job on 70,000 real images (at most 20 minutes on 2 cores)
	$(BIN)/factbook run fashion

test: $(READY)  ## all tests but of clusters; those in a browser where a Chromium is found
	$(PYTEST) --ignore tests/clusters

quick: WORKERS = 2
quick: $(READY)  ## the tests that need no training, page, server or browser
	$(PYTEST) --ignore tests/clusters -m 'not (slow or server or browser or benchmark)'

clusters: WORKERS = 2
clusters: $(READY)  ## tasks on a real Slurm of two nodes, where one is installed, and on Dask's workers
	$(PYTEST) tests/clusters

paper-smoke: $(READY)  ## each chain of both papers, at its real size but for data and training
	$(BIN)/python -m tests.papers.smoke

faults: MANY_READERS = tests/dashboards/test_browser_explained.py::test_readers_read_on_while_experiments_write
faults: $(READY)  ## faults at random moments, twenty of each kind
	FACTBOOK_FAULT_TRIALS=$${FACTBOOK_FAULT_TRIALS:-20} $(PYTEST) --dist load tests/faults $(MANY_READERS)

cluster-faults: WORKERS = 2
cluster-faults: $(READY)  ## jobs, nodes, daemons, workers and drivers ended at random moments, ten of each kind
	FACTBOOK_FAULT_TRIALS=$${FACTBOOK_FAULT_TRIALS:-10} $(PYTEST) --dist load --timeout 1200 tests/clusters

format: $(READY)  ## rewrite the code's layout
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

docs: $(READY)  ## the site, strictly: docs/_build/html/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

check: lint types contracts docs test  ## format, lint, types, import contracts, site, tests

bench: $(READY)  ## the measured ratios as one table; BENCH="sae_step records" takes some
	$(BIN)/python -m tests.benchmarks $(BENCH)

dashboard: $(READY)  ## open the dashboard
	$(BIN)/factbook dashboard

stop:  ## stop the embedded database
	-$(BIN)/factbook mongo stop

clean: stop  ## remove the environment and what the tests wrote; datasets and records stay
	rm -rf $(VENV) tests/output
