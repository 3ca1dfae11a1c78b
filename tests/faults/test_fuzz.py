"""The short form of the fuzzing: a few cases of every target, none of them a bug."""

import pytest

from tests.faults.fuzz import TARGETS, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_odd_input_is_read_or_refused(target):
    ends, bugs = fuzz(target, 150)
    assert not bugs, bugs
    assert len(ends) > 1, "nothing but one end: the cases do not reach what they are for"
