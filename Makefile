# One word for everything a person needs: `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
# Evaluated once: the recipes of `demo` have to agree on the folder.
DEMO := $(or $(DEMO),demo/$(shell date +%Y-%m-%d_%H-%M-%S))
TESTS ?= not heavy
# What two CPU cores can do in ten minutes (docs/results.md).
RECIPE := train.steps=4000 train.warmup_steps=200
# The folders at the root that make up the package, as in setup.py.
PACKAGES := policy envs data configs deploy benchmarks apps

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types check lock clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install dipole into it (PYTHON=python3.12 chooses the interpreter)

$(STAMP): pyproject.toml setup.py requirements.lock .ci/environment.py
	@$(PYTHON) .ci/environment.py $(VENV)
	@touch $@

demo: setup ## train on the bundled demonstrations, evaluate, and say where the video is
	$(BIN)/dipole train task=pusht_state policy=unet_small $(RECIPE) output=$(DEMO)/train
	$(BIN)/dipole evaluate checkpoint=$(DEMO)/train episodes=50 n_action_steps=4 output=$(DEMO)/evaluation

# Tests start simulators, robots and servers beside inference: threads that wait have to sleep. Where
# there is a worker for every core, one thread is enough for each.
test: export OMP_WAIT_POLICY ?= PASSIVE
test: setup ## run the tests (TESTS='not slow and not heavy' for the quick ones, TESTS=heavy for the rest)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -m "($(TESTS)) and not alone" --numprocesses auto --maxprocesses 8 --dist loadfile --max-worker-restart 1
	@$(BIN)/pytest -m "($(TESTS)) and alone" tests/deploy tests/apps tests/envs/test_cluster_ray.py

lint: setup ## check style and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup ## check types
	@mkdir -p build/ns/dipole
	@for folder in $(PACKAGES); do ln -sfn ../../../$$folder build/ns/dipole/$$folder; done
	@ln -sfn ../../../policy/_root/__init__.py build/ns/dipole/__init__.py
	@$(BIN)/mypy

check: lint types test ## all of the three, as CI does

# uv: pip install uv
lock: setup ## pin the newest versions within pyproject.toml's ranges anew
	uv pip compile pyproject.toml --extra pusht --extra dev --universal --python-version 3.11 \
	    --fork-strategy fewest --no-annotate --no-header --upgrade --quiet -o requirements.lock

clean: ## delete .venv and everything that tools leave behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
