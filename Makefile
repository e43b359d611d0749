# Two commands set everything up: `make demo` and `make test`.
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export PYTHONUNBUFFERED := 1
PARALLEL := -n auto --maxprocesses 4 --dist loadgroup
CASES ?= 10000
ifndef SEED
SEED := $(shell shuf -i 1-1000000 -n 1)
endif
# The processes of the tests share the cores already.
test-unit test test-all fuzz: export OMP_NUM_THREADS := 1
# Every stage is a process: without cached bytecode each spends seconds compiling its imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test-unit test test-all fuzz lint docs bench bench-full ui clean

install: $(VENV)/.installed

# uv where it is installed, pip otherwise; PIP_FIND_LINKS is honoured by both.
$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	@if command -v uv >/dev/null; then \
	  UV_FIND_LINKS="$(PIP_FIND_LINKS)" uv pip install --compile-bytecode --python $(BIN)/python -e '.[dev,docs]' -c constraints.txt; \
	else \
	  $(BIN)/python -m pip install --progress-bar off --quiet -e '.[dev,docs]' -c constraints.txt; \
	fi
	@# what the link dvc.lock points to in a fresh clone (dml/cli/cohort_lock.py)
	@test -e dvc.lock || ! test -L dvc.lock || { mkdir -p .dvc/tmp/cohorts; echo "schema: '2.0'" > "$$(readlink dvc.lock)"; }
	touch $@

demo: install          ## generated slides -> features -> teacher -> student -> registry (about 10 minutes on 2 cores)
	dml cohort use demo
	dml cohort demo
	dvc repro
	dml results

test-unit: install     ## without training, encoding and processes: half a minute
	python -m pytest $(PARALLEL) -m "not integration and not slow and not gpu" tests

test: install          ## all but the slow ones, and the examples of the docstrings
	python -m pytest $(PARALLEL) --doctest-modules -m "not slow and not gpu" tests dml

test-all: install      ## and the slow ones: the pipeline end to end, and killed
	python -m pytest $(PARALLEL) --doctest-modules -m "not gpu" tests dml

fuzz: install          ## spoiled files of every kind: CASES=10000, and SEED to do it again
	@echo "seed $(SEED), $(CASES) cases"
	DML_FUZZ_CASES=$(CASES) DML_TEST_SEED=$(SEED) python -m pytest $(PARALLEL) -m slow tests/fuzz

lint: install
	ruff check .
	ruff format --check .
	mypy
	lint-imports

docs: install          ## the documentation as a site that works offline: site/index.html
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

bench: install         ## what is fast and what is not: a few minutes; the table is docs/benchmarks.md
	python -m benchmarks

bench-full: install    ## and the long ones
	python -m benchmarks --full

ui: install            ## MLflow (and the Optuna dashboard, once there are studies) on loopback
	dml ui

clean:                 ## generated things; raw data and the tracking store stay
	rm -rf data/demo models reports .work
