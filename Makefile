# Two commands for newcomers: `make demo` and `make test`. Both build a virtual environment in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# macOS has an older make.
OUTPUT_SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# Initial letters of the test files that take as long as all others.
FIRST_HALF := a-nr
SOURCES := setup.py pyproject.toml CMakeLists.txt $(shell find csrc -type f)

.PHONY: help demo test test-first test-second fuzz test-lanes16 test-threads test-races sanitize gpu-install test-gpu bench-gpu lint types format format-check bench arena paper tables docs clean

help:
	@echo "make demo          install, then impute a real table and show the errors"
	@echo "make test          install, then run the tests"
	@echo "make bench         measure kernels and training steps against eager PyTorch; writes bench/results/"
	@echo "make arena         imputation errors beside other methods (hours; resumes; python -m bench.accuracy --quick)"
	@echo "make paper         the paper's tables and figures (hours; resumes; python -m bench.paper all --quick)"
	@echo "make tables        write docs/performance.md and docs/quality.md from bench/results/"
	@echo "make docs          build the documentation site into docs/_build/html; warnings are errors"
	@echo "make test-lanes16  run the kernel tests with the AVX-512 code path emulated on AVX2"
	@echo "make fuzz          ten minutes of hostile files, tables and kernel inputs"
	@echo "make test-threads  teams of threads in every phase of training under ThreadSanitizer"
	@echo "make sanitize      run the kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make test-races    run the kernel tests under ThreadSanitizer"
	@echo "make test-gpu      run the tests that need a CUDA GPU, with GPU_PYTHON"
	@echo "make bench-gpu     measure the GPU and the ops on it; writes bench/results/"
	@echo "make lint types format-check   what CI runs after the tests; make format mends the format"

$(VENV)/installed: $(SOURCES) constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@

$(VENV)/linted: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group lint
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

# In two processes, as tests keep little more than one core busy; the second takes every file that the first does not.
test: $(VENV)/installed
	@echo "Two halves of the tests, ten to thirty minutes; each prints when it has ended."
	@$(MAKE) --jobs=2 --keep-going $(OUTPUT_SYNC) test-first test-second

test-first: $(VENV)/installed
	$(BIN)/python -m pytest tests/test_[$(FIRST_HALF)]*.py

test-second: $(VENV)/installed
	$(BIN)/python -m pytest --ignore-glob='tests/test_[$(FIRST_HALF)]*.py'

test-lanes16: $(VENV)/installed
	$(BIN)/python -m tests.special_builds lanes16

test-threads: $(VENV)/installed
	$(BIN)/python -m tests.special_builds threads

sanitize: $(VENV)/installed
	$(BIN)/python -m tests.special_builds sanitize

test-races: $(VENV)/installed
	$(BIN)/python -m tests.special_builds races

bench: $(VENV)/installed
	$(BIN)/python -m bench
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.front_door
	$(BIN)/python -m bench.stream
	$(BIN)/python -m bench.kills
	$(BIN)/python -m bench.cluster
	$(BIN)/python -m bench.load
	$(BIN)/python -m bench.coverage
	$(BIN)/python -m bench.not_at_random
	$(BIN)/python -m bench.soak

fuzz: $(VENV)/installed
	$(BIN)/python -m tests.fuzz --seconds 120

# On a machine with a GPU whose Python has torch, cuda-core and the build tools; nothing is downloaded.
GPU_PYTHON ?= python3

gpu-install:
	$(GPU_PYTHON) -m pip install --quiet --no-build-isolation --no-deps --editable .

test-gpu: gpu-install
	$(GPU_PYTHON) -m pytest -m gpu
	if command -v compute-sanitizer >/dev/null; then \
	    compute-sanitizer --error-exitcode 1 $(GPU_PYTHON) -m pytest -m gpu -k "on_the_gpu and layout0-3"; fi

bench-gpu: gpu-install
	$(GPU_PYTHON) -m bench.gpu

$(VENV)/arena: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,arena]"
	@touch $@

arena: $(VENV)/arena
	$(BIN)/python -m bench.accuracy

paper: $(VENV)/arena
	$(BIN)/python -m bench.paper all

$(VENV)/documented: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	@touch $@

docs: $(VENV)/documented
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -b html docs docs/_build/html

tables: $(VENV)/installed
	$(BIN)/python -m bench.tables

lint: $(VENV)/linted
	$(BIN)/ruff check .

types: $(VENV)/linted
	$(BIN)/mypy

format: $(VENV)/linted
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find csrc tests/cuda_emulation tests/threads -name '*.h' -o -name '*.cpp' -o -name '*.cu')

format-check: $(VENV)/linted
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(find csrc tests/cuda_emulation tests/threads -name '*.h' -o -name '*.cpp' -o -name '*.cu')

clean:
	rm -rf $(VENV) build dist docs/_build docs/api *.egg-info vsae_fast/*.so
