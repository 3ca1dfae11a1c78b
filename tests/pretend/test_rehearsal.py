"""The scripts for a GPU meet a device before they meet a real one."""

import pytest

pytestmark = pytest.mark.slow


def test_scripts_for_a_gpu_run_on_a_pretended_one(pretended, digits):
    found = pretended("tests.pretend.rehearsal", digits)
    assert found.pop("device")
    assert found == {"gpu_race": 0, "gpu_ceilings": 0, "gpu_saving": 0}
