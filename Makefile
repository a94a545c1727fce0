# Everything runs in the checkout's own .venv; nothing but Python 3.11-3.13, pip and make is needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
LAUNCH := $(BIN)/accelerate launch --config_file configs/accelerate/cpu.yaml

.PHONY: demo test lint annotator clean

demo: .venv/installed
	@echo "demo: three masks -> teacher -> pseudo-labels -> student -> ONNX -> comparison, on this CPU"
	$(LAUNCH) train.py distill --config configs/demo.yaml
	@echo "demo: open runs/demo/compare/report.html; the exported student is runs/demo/export/student"

test: .venv/installed
	@echo "test: the tests, with warnings as errors"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The segmenter, trained on exact masks of rendered faces, that drew the shipped annotations.
annotator: .venv/installed
	$(LAUNCH) train.py student --config configs/annotator.yaml
	$(LAUNCH) train.py export --config configs/annotator.yaml

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || (echo "error: no Python 3.11, 3.12 or 3.13 on PATH; set PYTHON=..." && exit 2)
	@echo "install: the pinned packages into .venv (about 6 GB the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv runs
