# make setup   one virtual environment in .venv, made once; make test adds what tests need
# make demo    pack, train and evaluate the embedded default
# make check   lint, types and the fast tests: two minutes on two cores, more the first time
# make test    lint, types and all tests: some ten minutes on two cores
# make wheel-check   build sdist and wheel, install the wheel without the repository, run the commands
# make clean   remove the environment and what was built; packed sets and runs stay
# make faults  kills, full disks, corruption, other numbers of ranks, at full length: what was tried, what was lost
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two workers begin with half of the tests each, in order: what tests share is made twice at most.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup demo check test wheel-check faults lint clean
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.tests: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m preprocess.shard
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no -m train
	$(BIN)/python -m eval --ckpt runs/digits/best

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files -z | xargs -0 $(BIN)/codespell
	$(BIN)/mypy

check: lint
	$(PYTEST) -m "not slow"

test: lint
	$(PYTEST)

wheel-check: $(VENV)/.tests
	$(BIN)/python -m pytest tests/test_wheel.py

faults: $(VENV)/.tests
	$(BIN)/python -m tests.faults

clean:
	rm -rf $(VENV) build dist *.egg-info
