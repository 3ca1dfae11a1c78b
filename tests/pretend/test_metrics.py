"""Metrics as a GPU computes them: the bits of the CPU, and how often the device is asked."""

import pytest

pytestmark = pytest.mark.slow
# By one sort of the line and flat scans; 781 of 5,823 x 20 when each class was sorted by itself.
LAUNCHES = 96


def test_the_ways_of_a_device_give_the_bits_of_the_cpu(pretended):
    found = pretended("tests.pretend.metrics", "bits")
    assert len(found) == 4 * 13
    assert not {name: num for name, num in found.items() if num}


def test_launches_do_not_grow_with_the_matrix(pretended):
    found = pretended("tests.pretend.metrics", "launches")
    assert len(found) == 3
    for size, asked in found.items():
        assert 20 < asked["launches"] <= LAUNCHES, size
        assert asked["waits"] == 0, size
