"""CPUs of the levels x86-64-v2 and v3 give the bits of this one, as far as docs/guarantees.md
promises them.

`python tests/emulated/test_levels.py` writes the golden metrics again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.emulated.core import crops, exact
from tests.emulated.levels import LEVELS, can_run, variables
from tests.emulated.metrics import metrics

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/metrics.json"


@pytest.fixture(scope="module")
def here() -> dict:
    return {"exact": exact(), "tiles": crops(True), "resized": crops(False)}


@pytest.fixture(scope="module", params=LEVELS)
def there(request, tmp_path_factory):
    """What a process of a lower level gives."""
    if not can_run(request.param):
        pytest.skip(f"this CPU does not have the instructions of x86-64-{request.param}")
    out = tmp_path_factory.mktemp("emulated") / "core.npz"
    env = {**os.environ, **variables(request.param)}
    subprocess.run(
        [sys.executable, "-m", "tests.emulated.core", str(out)], cwd=ROOT, env=env, check=True
    )
    return np.load(out)


@pytest.mark.slow
def test_shards_order_and_metrics_are_the_same_bits_on_lesser_cpus(here, there):
    assert json.loads(str(there["exact"])) == here["exact"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiles", "resized"])
def test_training_crops_are_the_same_bits_on_lesser_cpus(here, there, kind):
    assert np.array_equal(there[kind], here[kind])


def test_metrics_are_the_golden_ones_to_the_last_bit():
    assert metrics() == json.loads(GOLDEN.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_libraries_obey(level):
    """A variable that a library no longer reads would leave nothing emulated."""
    if not can_run(level):
        pytest.skip(f"this CPU does not have the instructions of x86-64-{level}")
    asked = (
        "import os, numba, torch, numpy._core._multiarray_umath as n; "
        "print(torch.backends.cpu.get_cpu_capability(), "
        "numba.core.codegen.JITCPUCodegen('t').magic_tuple()[1:], [name for name in "
        "os.environ['NPY_DISABLE_CPU_FEATURES'].split() if n.__cpu_features__[name]])"
    )
    env = {**os.environ, **variables(level)}
    done = subprocess.run(
        [sys.executable, "-c", asked], env=env, check=True, capture_output=True, text=True
    )
    expected = {"v3": "AVX2 ('x86-64-v3', '') []", "v2": "DEFAULT ('x86-64-v2', '') []"}
    assert done.stdout.strip() == expected[level]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(metrics(), indent=1) + "\n")
