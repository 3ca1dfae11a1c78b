"""An emulated Arm machine gives the bits of this one. `make emulate-arm` makes it and runs this."""

import json

import numpy as np
import pytest

from tests.emulated.arm import is_made, run_core
from tests.emulated.core import crops, exact


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not is_made(), reason="no emulated Arm machine: make emulate-arm makes one")
def test_an_arm_machine_gives_the_same_bits(tmp_path):
    """All but crops that OpenCV resizes: it adds in another order there."""
    run_core(tmp_path / "core.npz")
    there = np.load(tmp_path / "core.npz")
    found = json.loads(str(there["exact"]))
    here = exact()
    assert {"train-000000.tar", "index.json", "order", "whole images"} <= set(found)
    assert found == {name: here[name] for name in found}
    assert np.array_equal(there["tiles"], crops(True))
    assert np.abs(there["resized"].astype(int) - crops(False)).max() <= 1
