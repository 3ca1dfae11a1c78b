# make setup   one virtual environment in .venv, made once; make test adds what tests need
# make demo    pack, train and evaluate the embedded default: under 3 minutes on two cores with AVX2
# make check   lint, types and the fast tests: two minutes on two cores, more the first time
# make test    lint, types and all tests: some twenty minutes on two cores
# make emulate numeric tests as on CPUs of the levels x86-64-v3 (AVX2) and v2 (SSE 4.2)
# make emulate-arm   the numeric core on an emulated Arm machine, compared with this one: 5 minutes
# make wheel-check   build sdist and wheel, install the wheel without the repository, run the commands
# make clean   remove the environment and what was built; packed sets and runs stay
# make faults  kills, full disks, corruption, other numbers of ranks, at full length: what was tried, what was lost
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two workers begin with half of the tests each, in order: what tests share is made twice at most.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup demo check test emulate emulate-arm wheel-check faults lint clean
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# All at once: a second pip would look through the first one's packages again.
$(VENV)/.tests: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --editable '.[dev]'
	touch $(VENV)/.ready $@

demo: setup
	@echo "demo, 1 of 3: packs 5,000 pictures of digits into data/digits; some 20 seconds, the first time"
	$(BIN)/python -m preprocess.shard
	@echo "demo, 2 of 3: trains a small network on them into runs/digits; some 90 seconds on two cores with AVX2, half of that with AMX"
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no -m train
	@echo "demo, 3 of 3: evaluates the best epoch on 1,000 pictures and draws the report; some 10 seconds"
	$(BIN)/python -m eval --ckpt runs/digits/best
	@echo "demo: done; the report is $(CURDIR)/runs/digits/eval-val/report.html"

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files -z | xargs -0 $(BIN)/codespell
	$(BIN)/mypy

check: lint
	$(PYTEST) -m "not slow"

test: lint
	$(PYTEST)

CORE := tests/shards/test_order.py tests/shards/tiles tests/shards/augment tests/preprocess/packing/test_golden.py \
	tests/preprocess/jpeg tests/eval/metrics tests/eval/test_ranking.py tests/emulated
emulate: $(VENV)/.tests
	for level in v3 v2; do $(BIN)/python -m tests.emulated $$level pytest $(CORE) || exit 1; done

emulate-arm: $(VENV)/.tests
	$(BIN)/python -m tests.emulated.arm
	$(BIN)/python -m pytest tests/emulated/test_arm.py

wheel-check: $(VENV)/.tests
	$(BIN)/python -m pytest tests/test_wheel.py

faults: $(VENV)/.tests
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
	$(BIN)/python -m tests.faults

clean:
	rm -rf $(VENV) build dist *.egg-info
