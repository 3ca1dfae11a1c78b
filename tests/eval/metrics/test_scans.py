"""One sort and one scan over all rows, as on a GPU: the integers that each row gives by itself."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.scans import (
    ends_of_runs,
    gained_since_run_before,
    line_ends,
    line_gained,
    line_sum,
    running_sum,
)
from eval.metrics.sort import line_sort, sortable
from tests.eval.problems import problems


@st.composite
def rows(draw):
    """Draw (truths [k, N], is_last [k, N]): the last place of a row always ends a run."""
    num_rows, num_places = draw(st.integers(1, 6)), draw(st.integers(1, 30))
    size = num_rows * num_places
    truths, ends = (
        torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size))) for _ in range(2)
    )
    is_last = ends.view(num_rows, num_places)
    is_last[:, -1] = True
    return truths.view(num_rows, num_places), is_last


@settings(max_examples=200, deadline=None)
@given(rows())
def test_scans_of_the_line_equal_those_of_rows(drawn):
    truths, is_last = drawn
    counts = running_sum(truths)
    assert torch.equal(counts, truths.cumsum(1))
    assert torch.equal(line_sum(truths), counts)
    assert line_sum(truths).dtype == counts.dtype == torch.int32
    assert torch.equal(line_gained(counts, is_last), gained_since_run_before(counts, is_last))
    assert torch.equal(line_ends(is_last), ends_of_runs(is_last))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_sort_of_the_line_equals_that_of_rows(problem):
    keys = sortable(torch.as_tensor(problem[0]).T.contiguous())
    expected = keys.long().sort(dim=1, stable=True)
    values, places = line_sort(keys, torch.iinfo(keys.dtype).bits)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


def test_keys_that_fill_their_bits_stay_in_their_rows():
    """Of 33 bits the extremes, in more rows than are left bits for in 16 more."""
    limit = 1 << 32
    keys = torch.tensor([limit - 1, -limit, 0, -1]).repeat(70_000, 1)
    for num_bits in (33, 50):  # in one line, and row by row
        values, places = line_sort(keys, num_bits)
        assert torch.equal(values, torch.tensor([-limit, -1, 0, limit - 1]).expand(70_000, 4))
        assert torch.equal(places, torch.tensor([1, 3, 2, 0]).expand(70_000, 4))
