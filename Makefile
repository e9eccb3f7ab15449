# Each target makes .venv and installs everything by itself.
#   make demo   data, training, evaluation and report of eight problems in one model
#   make test   the tests; make test-slow: 20 kills, replicas with each kind of update,
#               thousands of damaged files, for a quarter of an hour
#   make test-browser, make test-load: the page of mm-serve in Chromium, 1,000 requests
#   make test-export: an exported model in an environment with TensorFlow alone
#   make lint   ruff and mypy
#   make clean  removes .venv, caches and the demo's output
# PYTHON chooses the interpreter (3.11 to 3.13): make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

EXPORT_VENV ?= .venv-export
DEMO_DIR ?= demo
DEMO_PROBLEM ?= eight_small
DEMO_MODEL ?= multimodel
DEMO_HPARAMS_SET ?= multimodel_tiny
DEMO_STEPS ?= 7000
DEMO_EVAL_FREQUENCY ?= 2200

.PHONY: demo test test-slow test-browser test-load test-export lint format clean
.DELETE_ON_ERROR:

$(STAMP): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  (3, 11) <= v < (3, 14) or sys.exit("$(PYTHON) is Python %d.%d; expected 3.11 to " \
	  "3.13. Run for example: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo,dev]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/mm-trainer --generate_data --problem=$(DEMO_PROBLEM) \
	  --model=$(DEMO_MODEL) --hparams_set=$(DEMO_HPARAMS_SET) \
	  --data_dir=$(DEMO_DIR)/data --tmp_dir=$(DEMO_DIR)/downloads \
	  --output_dir=$(DEMO_DIR)/run --train_steps=$(DEMO_STEPS) \
	  --eval_frequency=$(DEMO_EVAL_FREQUENCY) --eval_examples=100
	$(BIN)/mm-eval --data_dir=$(DEMO_DIR)/data --output_dir=$(DEMO_DIR)/run
	$(BIN)/mm-report --output_dir=$(DEMO_DIR)/run

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist=loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist=load -m slow

# The page of mm-serve in a real browser; Debian: apt-get install chromium chromium-driver
test-browser: $(STAMP)
	$(BIN)/python -m pytest -rs -m browser tests/serving/browser_test.py

# 1,000 mixed requests, some of them malicious, to mm-serve
test-load: $(STAMP)
	$(BIN)/python benchmarks/serve.py

# An exported model where there is TensorFlow and tensorflow-text, and nothing of ours
test-export: $(STAMP)
	$(PYTHON) -m venv --clear $(EXPORT_VENV)
	$(EXPORT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  "tensorflow>=2.21,<2.22" "tensorflow-text>=2.21,<2.22"
	EXPORT_PYTHON=$(abspath $(EXPORT_VENV))/bin/python \
	  $(BIN)/python -m pytest tests/export_test.py

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) $(EXPORT_VENV) $(DEMO_DIR) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
