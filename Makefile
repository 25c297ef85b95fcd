# Two commands for a fresh machine: `make demo` and `make test`.
# PYTHON may name another interpreter (3.11 or newer): make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

NEWEST := .venv-newest

.PHONY: demo test test-newest docs lint format stubs bench gpu gpu-wheels clean

## The whole method on the embedded sample field, in demo-run/
demo: $(VENV)/.installed
	$(BIN)/dvos demo --out demo-run

## Style, types, import rules and every test that needs no GPU
test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope  # a core each: threads that wait for one another cost four times the time

## What reads, predicts and reports, with the newest release of everything: make test-newest PYTHON=python3.12
test-newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[test]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2 --dist loadscope tests/media tests/prediction tests/reporting tests/contract/test_installed.py

## The pages of docs/ as a site in build/site, every link checked
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/mkdocs build --quiet

lint: $(VENV)/.installed-test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/mypy --config-file= --ignore-missing-imports --follow-imports=silent benchmarks
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

## Writes api.pyi, the signatures of Python's interface, anew from the settings
stubs: $(VENV)/.installed-test
	$(BIN)/python -c 'from dvos.api import stub_text; print(stub_text(), end="")' > src/dvos/api.pyi.new
	mv src/dvos/api.pyi.new src/dvos/api.pyi
	$(BIN)/ruff format src/dvos/api.pyi

bench: $(VENV)/.installed
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

## What the program does on a GPU, in six minutes, as gpu.json; more by GPU="--published PATH ..."
gpu: $(VENV)/.installed-test
	$(BIN)/python benchmarks/gpu.py --minutes 6 --out gpu.json $(GPU)

## What `python benchmarks/gpu.py --wheels gpu-wheels` needs on a bare machine with torch, at most 60 MiB
gpu-wheels: $(VENV)/.installed
	$(BIN)/python benchmarks/gpu_wheels.py --out gpu-wheels $(GPU_WHEELS)

clean:
	rm -rf $(VENV) $(NEWEST) demo-run build *.egg-info src/*.egg-info

# The stamps are made last, so that an installation that broke off is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
