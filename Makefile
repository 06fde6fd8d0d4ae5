# Transect. `make help` says what there is. Variables go on the command line: make train MODEL=yolo26n EPOCHS=50
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Python 3.11 or newer. Only .venv and the small programs in docker/ run with it.
PYTHON ?= python3
# train: MODEL DATA EPOCHS CONFIG ARGS   sweep: MODEL DATA EPOCHS CONFIG ARGS   reproduce: RUN DATA ARGS
# DATA_ALSO goes with DATA: more folders, with a blank between two, that a training in the stack may read.
# promote: DATA REASON ARGS   rollback: REASON   census: SURVEY OUT MODEL CONFIG ARGS
# RUNTIME=auto|stack|local says where they run; GPU=1 gives them, and up, the GPUs of this machine,
# or those of TRANSECT_GPUS=0,2.
export PYTHON MODEL DATA DATA_ALSO EPOCHS CONFIG ARGS RUN REASON SURVEY OUT RUNTIME GPU

# A value arrives in the environment as it was typed: make would expand its dollar signs, and run what $(shell ...) in
# it says. No recipe names a variable of the command line with $(NAME), for then the shell would read its value too.
$(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),\
	$(eval override $(name) := $$(value $(name)))$(eval export $(name))))
# Without its files of bytecode Python compiles every package again in every process: 15 s for PyTorch and MLflow.
unexport PYTHONDONTWRITEBYTECODE
# Bash has a variable of this name itself.
export LOAD_SECONDS = $(value SECONDS)

STACK := "$$PYTHON" docker/stack
PYTEST := .venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Runs a program with the words of ARGS added.
WITH_ARGS := "$$PYTHON" tools/with_args.py
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header
# uv takes the package index and the certificates that pip was told to use.
AS_PIP = index=$$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true); \
	export UV_DEFAULT_INDEX=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$index}}; \
	[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; \
	[ -z "$${PIP_CERT:-}" ] || export SSL_CERT_FILE=$${SSL_CERT_FILE:-$$PIP_CERT}

.PHONY: help setup demo test test-integration test-containers test-all test-cpus referees check lint docs mutants reference lock up observe down ps logs train sweep reproduce sync promote rollback models census ui sample bench \
	bench-census bench-serve bench-swap bench-overload bench-intervals bench-factor bench-ground bench-differences bench-review bench-review-real bench-review-scale bench-scale bench-unique bench-accuracy bench-transfer bench-tracking bench-gpu bench-gpu-file starter clean

# Say what there is.
help:
	@awk '/^# /{said = substr($$0, 3); next} /^[a-z-]+:/{split($$1, name, ":"); if (said) printf "  %-17s %s\n", name[1], said} {said = ""}' Makefile

# Make .venv with everything for training, tests and the demo; does nothing when it is up to date.
setup: .venv/.installed

.venv/.installed: requirements/build.txt requirements/dev.txt pyproject.toml
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Transect needs Python 3.11 or newer; name one with PYTHON=..., such as make setup PYTHON=python3.12" >&2; exit 2; }
	@[ -x .venv/bin/python ] || "$$PYTHON" -m venv .venv
	@echo "Installing what requirements/dev.txt names (some 3 GB the first time, mostly PyTorch)"
	@.venv/bin/python -m pip install --quiet --require-hashes --requirement requirements/build.txt
	@$(AS_PIP); \
	.venv/bin/python tools/install.py .venv/bin/uv pip install --python .venv/bin/python --no-deps --require-hashes \
		--requirement requirements/dev.txt; \
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

# Do the whole job on a sample survey: train, promote, serve, count, report. No Docker, no GPU.
demo: setup
	@$(WITH_ARGS) .venv/bin/transect demo

# Run the unit tests, two files at a time; ARGS goes to pytest.
test: setup
	@$(WITH_ARGS) $(PYTEST) tests/unit

# Make .venv-referees, whose readers of labelling tools judge the exports of a review (some 1 GB); the tests use it.
referees: .venv-referees/.installed

# Run the tests with real processes, MLflow, PostgreSQL, S3 and a browser.
test-integration: setup
	@$(WITH_ARGS) $(PYTEST) tests/integration tests/browser

# Run the tests of the Compose stack; they need Docker.
test-containers: setup
	@REQUIRE_CONTAINERS=1 $(WITH_ARGS) $(PYTEST) tests/containers

# Run every test; those of the containers need Docker, and REQUIRE_CONTAINERS=1 insists on it.
test-all: setup
	@$(WITH_ARGS) $(PYTEST)

# Check style, types, import rules, the docs, and run the unit tests: before each commit.
check: lint docs test

# Run the tests that train as if on 24 other processors and print a table (hours); ARGS="--part N" for one of them
test-cpus: setup
	@$(WITH_ARGS) .venv/bin/python -m tests.cpus

# Check style, types and the import rules.
lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

# Build the site of docs/ in build/docs/site; a warning or a link that leads nowhere is an error.
docs: setup
	@.venv/bin/python tools/docs_site.py

# Change the code in small ways and see whether the unit tests notice (hours); ARGS="nms --sample 50", ARGS=--survivors
mutants: .venv-mutants/.installed
	@$(WITH_ARGS) .venv-mutants/bin/python tools/mutants.py

# Write the pages that follow from the code: docs/api.md, docs/cli.md, docs/openapi.json, docs/package.schema.json.
reference: setup
	@.venv/bin/python tools/reference.py

# Write requirements/*.txt anew from pyproject.toml; what they name already stays (ARGS=--upgrade for newer).
lock: setup
	@# megadetector-utils asks for the OpenCV with windows, which fills the same folder as the headless one.
	@$(WITH_ARGS) $(LOCK) pyproject.toml --extra train --extra detect --extra census --extra dev \
		--no-emit-package opencv-python -o requirements/dev.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt requirements/build.in -o requirements/build.txt
	@# Both builds of ONNX Runtime fill the same folder: only the one for CUDA may be there.
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt pyproject.toml --extra train --extra cuda \
		--no-emit-package onnxruntime -o requirements/trainer.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt pyproject.toml --extra detect -o requirements/detector.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt pyproject.toml --extra detect --extra census -o requirements/census.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt pyproject.toml --extra detect-cuda -o requirements/detector-cuda.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt pyproject.toml --extra detect-cuda --extra census \
		--no-emit-package onnxruntime -o requirements/census-cuda.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt docker/mlflow/requirements.in -o requirements/mlflow.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt --overrides requirements/bench-overrides.in pyproject.toml --extra bench \
		-o requirements/bench.txt
	@$(WITH_ARGS) $(LOCK) -c requirements/dev.txt --group pyproject.toml:mutation -o requirements/mutation.txt
	@# Not held to .venv's versions: datumaro wants an older Pillow and pyarrow.
	@$(WITH_ARGS) $(LOCK) --group pyproject.toml:referees -o requirements/referees.txt
	@.venv/bin/python tools/check_wheels.py

# Start the stack: write secrets into .env, build, start, wait until all is healthy; GPU=1 serves on the GPU.
up:
	@$(STACK) up

# Add Prometheus with its alerts and Grafana with the dashboard to the stack; make down stops them as well.
observe:
	@$(STACK) observe

# Stop the stack; data, models and runs stay in its volumes.
down:
	@docker compose --profile '*' down --remove-orphans

# Show the containers of the stack.
ps:
	@docker compose ps --all

# Follow the logs of the stack; ARGS=detector for one service.
logs:
	@$(WITH_ARGS) docker compose logs --follow --tail 100

# Train and register; the new version is the candidate. MODEL=yolo11n DATA=data.yaml EPOCHS=N CONFIG=... ARGS="key=value"; ARGS=--resume goes on
train:
	@$(STACK) train

# Search the best settings with many trainings; the best becomes the candidate. CONFIG=sweep.yaml; run again to go on.
sweep:
	@$(STACK) sweep

# Train a run of MLflow once more, as it was, and compare: make reproduce RUN=ID
reproduce:
	@$(STACK) reproduce

# Deliver what trainings and censuses could not tell MLflow while it was away, and register what waits for it.
sync:
	@$(STACK) sync

# Put the candidate through the gate; if it is better, it is served at once. REASON="..." is kept; ARGS=--force overrides.
promote:
	@$(STACK) promote

# Serve the previous production model again. REASON="..." is kept with the one that is taken back.
rollback:
	@$(STACK) rollback

# List the registered models.
models:
	@$(STACK) models

# Count a survey: make census SURVEY=surveys/NAME; results go to results/NAME. Run again to go on.
census:
	@$(STACK) census

# Open MLflow's pages on the embedded store of the folder STORE (runs, or runs/demo).
ui: setup
	@.venv/bin/transect ui --port "$${PORT:-5000}" --db-path "$${STORE:-runs}/mlflow.db"

# Make a sample survey with known truth in surveys/sample.
sample: setup
	@$(WITH_ARGS) .venv/bin/transect synth survey surveys/sample

# Measure the engine against the bare forward passes of its network; ARGS=photo.jpg for a photo of your own.
bench: setup
	@$(WITH_ARGS) .venv/bin/python benchmarks/engine.py

# Census speed against SAHI and the bare network; FRAMES=folder of photos, MODEL=package, ARGS=--markdown
bench-census: .venv-bench/.installed
	@$(WITH_ARGS) .venv-bench/bin/python -m benchmarks.census $${FRAMES:+--frames "$$FRAMES"} $${MODEL:+--package "$$MODEL"}

# Serving speed against FastAPI + Ultralytics and LitServe + Ultralytics; SECONDS=10 of load a step, ARGS=--markdown
bench-serve: .venv-bench/.installed
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.serve $${LOAD_SECONDS:+--seconds "$$LOAD_SECONDS"}

# Model swaps under load, with a real MLflow server: failed requests, delays, memory; ARGS=--markdown
bench-swap: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.swap

# Four times more requests than the service can answer, and how fast it is ready; ARGS=--markdown
bench-overload: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.overload $${LOAD_SECONDS:+--seconds "$$LOAD_SECONDS"}

# How often the 95% limits of a census hold the truth, method by method, in simulated surveys; ARGS=--markdown
bench-intervals: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.intervals

# How often the 95% limits of a detector's factor, precision and recall hold the truth; ARGS="--sets 500 --markdown"
bench-factor: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.factor

# Whether counts with false alarms are right, by precision and by empty ground; ARGS="--surveys 100 --markdown"
bench-ground: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.ground

# How often two surveys of as many animals are called different, by test; ARGS=--markdown
bench-differences: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.differences

# How often the limits of a count that people checked hold the truth, beside other uses of their time; ARGS=--markdown
bench-review: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.review

# Whether an hour of review mends the count of a detector that does not fit: real photos; SEEDS=20, MODEL=package
bench-review-real: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.review_real $${SEEDS:+--seeds "$$SEEDS"} $${MODEL:+--package "$$MODEL"}

# How a review grows up to 100,000 photos with a million boxes: start, plan, estimate; ARGS="--photos 1000 --markdown"
bench-review-scale: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.review_scale

# Whether each animal is counted once: walking herds, overlapping photos, errors of position; SEEDS=20, ARGS=--markdown
bench-unique: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.unique $${SEEDS:+--seeds "$$SEEDS"}

# Whether corrected counts and limits are right: a real detector on made surveys; SEEDS=20, MODEL=package, ARGS=--markdown
bench-accuracy: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.survey_accuracy $${SEEDS:+--seeds "$$SEEDS"} \
		$${MODEL:+--package "$$MODEL"}

# Whether a census says so where its detector is not to be believed; SEEDS=20 surveys a line, LINE=dusk, MODEL=package
bench-transfer: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.transfer $${SEEDS:+--seeds "$$SEEDS"} $${FRAMES:+--frames "$$FRAMES"} \
		$${LINE:+--only "$$LINE"} $${MODEL:+--package "$$MODEL"}

# How the census grows up to 100,000 photos with a million boxes, stage by stage; ARGS="--sizes 1000 10000 --markdown"
bench-scale: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.scale

# What tracking costs a training, with MLflow at hand, late and away; ROUNDS=6 pairs each, ARGS=--markdown
bench-tracking: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.tracking $${ROUNDS:+--rounds "$$ROUNDS"}

# One NVIDIA GPU in eight minutes: right, how fast, what it survives; ARGS=--rehearse without a GPU, ARGS=--markdown
bench-gpu: $(if $(findstring --rehearse,$(value ARGS)),setup,.venv-gpu/.installed)
	@$(WITH_ARGS) .venv$(if $(findstring --rehearse,$(value ARGS)),,-gpu)/bin/python -m benchmarks.gpu

# The same as one file, for a machine that has a GPU and no network: FILE=runs/bench/gpu.py, to be started there
bench-gpu-file: setup
	@$(WITH_ARGS) .venv/bin/python -m benchmarks.gpu --bundle "$${FILE:-runs/bench/gpu.py}"

# Makes the virtual environment of a target with what its first prerequisite lists.
# Without dependencies: the lists are whole, and that of the benchmarks lacks opencv-python on purpose.
define OWN_VENV
@.venv/bin/python -m venv --clear --without-pip $(@D)
	@$(AS_PIP); \
	.venv/bin/python tools/install.py .venv/bin/uv pip install --python $(@D)/bin/python --require-hashes --no-deps \
		--requirement $<
endef

# The same, and the packages of .venv beside.
define BESIDE_VENV
$(OWN_VENV)
	@packages() { "$$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
	echo "import site; site.addsitedir('$$(packages .venv)')" > "$$(packages $(@D))/beside.pth"
	@touch $@
endef

# What the others run in: some of these would make our own service faster.
.venv-bench/.installed: requirements/bench.txt .venv/.installed
	$(BESIDE_VENV)

# ONNX Runtime for CUDA goes before that of .venv: both are the module onnxruntime, and cannot be in one place.
.venv-gpu/.installed: requirements/detector-cuda.txt .venv/.installed
	$(BESIDE_VENV)

# mutmut, which runs the tests.
.venv-mutants/.installed: requirements/mutation.txt .venv/.installed
	$(BESIDE_VENV)

# The readers of labelling tools, which judge our exports in tests: datumaro wants an older Pillow and pyarrow than .venv has.
.venv-referees/.installed: requirements/referees.txt .venv/.installed
	$(OWN_VENV)
	@touch $@

# Train the starter weights again, from scratch (one to two hours on two CPU cores); see their model card.
starter: setup
	@.venv/bin/transect synth dataset runs/starter/wide --wide --tile 320 --train 5200 --val 160 --test 200 --seed 1
	@.venv/bin/transect synth dataset runs/starter/survey --tile 320 --train 1400 --val 80 --test 100 --seed 2
	@TRANSECT_HOME=runs/starter TRANSECT_PRETRAINED=none $(WITH_ARGS) .venv/bin/transect train --model yolo11n \
		--config configs/train/starter.yaml --data configs/starter-data.yaml
	@.venv/bin/python -c "from pathlib import Path; from transect.training.config.starter import write_starter; \
		print(write_starter(max(Path('runs/starter/train').glob('*/weights/best.pt'))))"

# Remove caches and build leftovers; runs, results, .env and .venv stay.
clean:
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find services tests docker benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
