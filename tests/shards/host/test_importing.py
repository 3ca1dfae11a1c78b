"""Slow imports: the collector rests meanwhile, and works again afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import gc, sys
from shards.host.importing import slow_imports
{before}
try:
    with slow_imports():
        resting = not gc.isenabled()
        import {module}
except ImportError:
    pass
print(resting, gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "module", "says"),
    [
        ("", "torch", "True True True"),
        ("", "torch, no_such_module", "True True True"),
        ("import torch", "json", "False True False"),  # a second command in the same process
        ("gc.disable()", "json", "True False False"),  # somebody else's choice
    ],
)
def test_the_collector_rests_while_torch_is_imported(before, module, says):
    script = SCRIPT.format(before=before, module=module)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == says


@pytest.mark.slow
def test_boto3_waits_until_somebody_asks_for_it():
    """Accelerate would import it with itself: half a second of every start."""
    pytest.importorskip("boto3")
    script = (
        "import sys; from shards.host.importing import slow_imports\n"
        "with slow_imports(): import accelerate\n"
        "print('boto3' in sys.modules); import boto3; print(boto3.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "boto3"]
