# Every target sets up .venv by itself (tools/dev/setup.sh: pinned packages, a second run does nothing).
#   PYTHON=/path/to/python3.12   build on this interpreter instead of the first one found
#   VENV=/elsewhere              use this environment instead of .venv
#   ARGS="…"                     hand these flags to the command behind the target

VENV ?= .venv
PYTHON ?=
ARGS ?=
# Test processes. Paddle runs one thread in each, which keeps two cores busier than one process with two threads.
TEST_WORKERS ?= 2

export VENV PYTHON
PY := $(VENV)/bin/python
PYTEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n $(TEST_WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo serve tipc test test-fast lint bench lite-benchmark clean
.PHONY: venv-main venv-serving venv-dev venv-bench

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: venv-main  ## build .venv from the pinned requirements
	@echo "$(VENV) is ready: try  make demo"

demo: venv-main  ## the whole story on synthetic data: learn, dream, learn on, evaluate, search (about 10 minutes)
	$(PY) tools/demo.py $(ARGS)

serve: venv-serving  ## an exported model as an HTTP service: make serve ARGS="--model-dir inference"
	$(PY) deploy/serving/app.py $(ARGS)

tipc: venv-main  ## the TIPC chain on synthetic data, from training to inference (about 5 minutes)
	bash test_tipc/test_train_inference_python.sh test_tipc/configs/AGD/train_infer_python.txt lite_train_lite_infer

test: venv-dev  ## all tests
	$(PYTEST) $(ARGS)

test-fast: venv-dev  ## the tests that take a few seconds each at most
	$(PYTEST) -m "not slow" $(ARGS)

lint: venv-dev  ## style, formatting, and the import contract between the floors
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports

bench: venv-bench  ## speed and memory against PyTorch and against full-sort ranking, same machine, same run
	$(PY) benchmarks/run_all.py $(ARGS)

lite-benchmark: venv-main  ## methods compared over three seeds, written to docs/lite_benchmark.md (about an hour)
	$(PY) tools/lite_benchmark.py $(ARGS)

clean:  ## remove the environment and caches; never data, weights or run folders
	if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi
	rm -rf "$(VENV)-setup.log" "$(VENV).lock" .pytest_cache .ruff_cache .hypothesis .import_linter_cache

venv-main venv-serving venv-dev venv-bench: venv-%:
	@bash tools/dev/setup.sh $*
