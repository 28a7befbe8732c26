# Two commands are all: `make demo` and `make test`. Both create .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= auto

.PHONY: demo test runtimes check bench clean

DEMO_BUNDLE := runs/demo/bundle/bundle.json

demo $(DEMO_BUNDLE): $(STAMP)  ## the main job on the built-in synthetic scenes
	$(BIN)/edgeaudio distill --demo -o runs/demo

test: $(STAMP)  ## the test suite, on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations=15

runtimes: $(STAMP)  ## the tools of LiteRT and ExecuTorch too (2 GB): their tests then run
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[litert-export,executorch]'

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEMO_BUNDLE)  ## benchmarks; each prints a ratio to its reference, measured in the same run
	$(BIN)/python benchmarks/distillation_step.py
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/end_to_end.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
# torch first and alone: pinned, it is a plain CPU build where there is one
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,features,search,serve,tensorboard,mlflow,timm,tflite,openvino,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist
