"""Batches on their way to a pretended device: whole however busy it is, in memory that does not
grow.
"""

import pytest

from shards.pipeline.making import BATCHES_AHEAD

pytestmark = pytest.mark.slow

NUM_THREADS = 2


@pytest.fixture(scope="module")
def found(pretended, packed) -> dict:
    return pretended("tests.pretend.batches", packed, devices=2, gb=1)


@pytest.mark.parametrize(
    "way",
    [
        "images_alone",
        "whole_batch",
        "by_name",
        "part_of_it",
        "into_a_buffer",
        "on_a_stream",
        "trainer",
        "trainer_elsewhere",
        "back_again",
        "kept",
    ],
)
def test_no_copy_meets_a_slot_that_is_filled_again(found, way):
    assert found["wrong"][way] == 0


def test_reserved_memory_is_flat_after_two_passes(found):
    """One side stream for good: what torch keeps for a stream is of use to that stream alone."""
    assert found["reserved"][2:] == found["reserved"][1:2] * 4, found["reserved"]


def test_pinned_memory_is_that_of_the_batches_in_flight(found):
    most = NUM_THREADS + BATCHES_AHEAD + 2  # being made, ahead; in the loop's hands, and on its way
    # one may be waiting for torch to see that its copy is done: it looks when a block is asked for
    assert found["pinned_blocks"] <= most + 1


def test_a_cache_on_the_device_gets_what_torch_keeps_but_does_not_use(found):
    first, second, third = found["resident"]
    assert (first, second) == ("ok", "ok")
    assert "cache device cannot hold 70 images on cuda:0" in third
    assert "\n" not in third
