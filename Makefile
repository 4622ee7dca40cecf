# Every target makes the environment (.venv) first if it is not there. Options go into ARGS: make train ARGS="epochs=1"
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train demo grid sweep debug bench wheel test test-slow gpu lint format notebooks sync clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed ## make .venv with the exact versions of constraints.txt

.venv/installed: pyproject.toml constraints.txt
	@echo "Making .venv: about 6 GB with PyTorch, a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

train: setup ## train, sample and score the default experiment (ARGS="epochs=1" for a short trip)
	@$(BIN)/python src/train.py $(ARGS)

demo: setup ## a page in the browser that draws digits: trained if need be, exported, served
	@$(BIN)/python src/train.py
	@$(BIN)/python src/export.py checkpoint=outputs/mnist_5k/default/checkpoints/last.ckpt format=web open=true \
		hydra.run.dir=outputs/mnist_5k/default/web $(ARGS)

grid: setup ## compare two losses and two schedules, four runs
	@$(BIN)/python src/train.py -m loss=mae,mse schedule=linear,cosine $(ARGS)

sweep: setup ## the same with two seeds, and a report (ARGS="--dry-run" lists it)
	@$(BIN)/python src/sweep.py sweeps/quick.yaml $(ARGS)

debug: setup ## does this machine work? every part once, in 20 seconds
	@$(BIN)/python src/train.py experiment=debug $(ARGS)

bench: setup ## how fast it is here, part by part (ARGS="benchmark=profile": where a step's time goes)
	@$(BIN)/python src/benchmark.py $(ARGS)

test: setup ## run the tests, each of seconds (three side by side: some wait)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal $(ARGS)

test-slow: setup ## run all tests, those that train for minutes too
	@$(BIN)/python -m pytest -q -m "slow or ci or not slow" $(ARGS)

gpu: setup ## on a machine with a GPU: does everything hold there, and how fast is it? under ten minutes
	@$(BIN)/python -m pytest -v -n 4 --dist loadgroup -m gpu $(ARGS)
	@$(BIN)/python src/benchmark.py benchmark=gpu rounds=3 seconds=1

lint: setup ## check style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup ## mend style and formatting
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

wheel: setup ## build a wheel into dist/, conf/ included
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

sync: setup ## upload the offline W&B runs under outputs/ (needs an account)
	@find outputs -type d -name 'offline-run-*' -exec $(BIN)/wandb sync {} +

notebooks: setup ## run the notebooks and keep their outputs in them
	@cd notebooks && for file in *.ipynb; do ../$(BIN)/jupyter execute --inplace $$file || exit 1; done

clean: ## remove the environment and caches; outputs/ stays
	rm -rf .venv .pytest_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
