# Two commands for a fresh machine: `make demo` and `make test`. Both set up first.
# Needs Python 3.11 or newer, make and the package registry. See `make help`.

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= results
JOBS   ?= 2
# A registry of CPU-only torch builds, for Linux machines where the default build would bring CUDA along:
# make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# the exact versions were resolved on 3.11; newer Pythons take the ranges of pyproject.toml
IS_311 := $(shell $(PYTHON) -c 'import sys; print("yes" if sys.version_info[:2] == (3, 11) else "")')
PINNED := $(if $(IS_311),-c constraints.txt,)
# the tests run side by side: one thread each, or they fight for the cores
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help install demo test test-full lint docs bench-real bench-full bench-app bench-priors bench-gears bench-scbig bench-trust bench-speed clean

help:  ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed  ## set up .venv

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	@# torch first: a range resolved later would fetch the newest build with its CUDA packages
	$(PIP) $(PINNED) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),) torch$(if $(IS_311),==2.13.0,)
	$(PIP) $(PINNED) -e '.[dev]'
	@touch $@

demo: install  ## fit every baseline on the simulated screen; leaderboard, verdict, pictures in results/
	$(BIN)/spm demo --out $(OUT) --overwrite

test: install  ## the tests that continuous integration runs
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not full'

test-full: install  ## all tests, with the nightly sizes
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: install  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) $(PINNED) -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs  ## build docs/_build/html; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench-real: install  ## leaderboards of the real screens, as tables under docs/benchmarks/
	$(BIN)/python benchmarks/real.py

bench-full: install  ## leaderboards of the published screens with all cells, in results/full; downloads 6 GB once
	$(BIN)/python benchmarks/full.py

bench-app: install  ## what APP is worth on simulated screens; fits are kept in results/app, so that it can go on
	$(ONE_THREAD) PYTHONPATH=benchmarks $(BIN)/python benchmarks/app/main.py

bench-priors: install  ## what each source of prior knowledge tells of unmeasured singles, under docs/benchmarks/
	$(ONE_THREAD) $(BIN)/python benchmarks/priors.py

GEARS ?= .venv-gears

$(GEARS)/.installed: benchmarks/peers/gears-requirements.txt
	$(PYTHON) -m venv $(GEARS)
	$(GEARS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/gears-requirements.txt
	@touch $@

bench-gears: install $(GEARS)/.installed  ## BioDSNN beside GEARS 0.1.2 in an environment of its own: speed, memory, errors
	$(BIN)/python benchmarks/peers/speed.py --python $(GEARS)/bin/python
	$(ONE_THREAD) $(BIN)/python benchmarks/peers/accuracy.py norman --python $(GEARS)/bin/python
	$(ONE_THREAD) $(BIN)/python benchmarks/peers/accuracy.py simulated --python $(GEARS)/bin/python
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/peers/page.py

SCBIG_PATHS := PYTHONPATH=benchmarks:benchmarks/peers
# a copy of the public release, https://github.com/ttruan2426-dot/scBIG
SCBIG_RELEASE ?= ../scBIG

.venv-%/.installed: benchmarks/scbig/%-requirements.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench-scbig: install .venv-scbig/.installed .venv-cellflow/.installed  ## SCBIG beside the public scBIG release and CellFlow in environments of their own; programs, cells, means
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/compare.py --checkout $(SCBIG_RELEASE) --batch-size 256 --iterations 4000 --every 1000 --release-iterations 900 --release-every 300 --encoder-epochs 10 --schemes combination
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/peers/accuracy.py simulated --model SCBIG
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/programs.py
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/cells.py
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/cell_ablations.py
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/real_anchor.py
	$(ONE_THREAD) $(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/solvers.py
	$(SCBIG_PATHS) $(BIN)/python benchmarks/scbig/write_page.py

bench-trust: install  ## intervals on simulated and real screens, budget curves of planned experiments, tricks on metrics, the shared-control trap; kept in results/trust, so that it can go on
	$(ONE_THREAD) PYTHONPATH=benchmarks $(BIN)/python benchmarks/trust/coverage.py
	$(ONE_THREAD) PYTHONPATH=benchmarks $(BIN)/python benchmarks/trust/design.py
	$(ONE_THREAD) $(BIN)/python benchmarks/trust/gaming.py
	$(ONE_THREAD) PYTHONPATH=benchmarks $(BIN)/python benchmarks/trust/trap.py

bench-speed: install  ## times of pseudobulk, baselines, APP, builders of priors, masked attention and interactions
	$(BIN)/python benchmarks/speed/pseudobulk.py
	$(BIN)/python benchmarks/speed/baselines.py
	$(BIN)/python benchmarks/speed/app.py
	$(BIN)/python benchmarks/speed/priors.py
	$(BIN)/python benchmarks/speed/interactions.py
	$(ONE_THREAD) $(BIN)/python benchmarks/speed/attention.py

clean:  ## remove what make made
	rm -rf $(VENV) build dist docs/_build docs/api/generated .pytest_cache .mypy_cache .ruff_cache
