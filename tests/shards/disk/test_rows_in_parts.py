"""Rows that may not be here yet: whatever is read of them is brought first."""

import numpy as np
import pytest

from shards.disk.rows_in_parts import RowsInParts

SIZES = np.array([0, 3, 1, 0, 0, 7, 5, 0, 2, 0])
DTYPE = np.dtype([("number", "<i8"), ("bits", "u1", (2,))])


class Table:
    """Rows of rubbish that become right when their part is brought."""

    def __init__(self) -> None:
        self.right = np.zeros(SIZES.sum(), DTYPE)
        self.right["number"] = np.arange(len(self.right)) + 100
        self.right["bits"] = 7
        self.found = np.full(len(self.right), np.array((-1, (255, 255)), DTYPE))
        self.brought: set[int] = set()
        self.ends = np.cumsum(SIZES)
        self.rows = RowsInParts(self.found, SIZES, self.bring)

    def bring(self, numbers: np.ndarray) -> None:
        for number in numbers.tolist():
            self.brought.add(number)
            part = slice(self.ends[number] - SIZES[number], self.ends[number])
            self.found[part] = self.right[part]


def mask(*places: int) -> np.ndarray:
    found = np.zeros(SIZES.sum(), bool)
    found[list(places)] = True
    return found


ASKED = {
    "one": (4, {5}),
    "numpy's": (np.int64(3), {2}),
    "last": (-1, {8}),
    "first from behind": (-18, {1}),
    "some": (np.array([0, 17, 0]), {1, 8}),
    "unsigned": (np.array([3], np.uint8), {2}),
    "list": ([11, -2], {6, 8}),
    "none": ([], set()),
    "no ids": (np.empty(0, np.int64), set()),
    "matrix": (np.array([[0, 3], [1, 2]]), {1, 2}),
    "mask": (mask(2, 12), {1, 6}),
    "slice": (slice(2, 5), {1, 2, 3, 4, 5}),
    "empty slice": (slice(5, 5), set()),
    "slice within a part": (slice(12, 15), {6}),
    "steps": (slice(4, 10, 3), {5}),
    "backwards": (slice(3, 0, -1), {1, 2}),
    "all": (slice(None), set(range(10))),
    "all backwards": (slice(None, None, -1), set(range(10))),
    "field": ("number", set(range(10))),
    "fields": (["number", "bits"], set(range(10))),
    "tuple": ((np.array([1, 2]),), set(range(10))),
    "ellipsis": (..., set(range(10))),
    "new axis": (None, set(range(10))),
    "list of bools": ([True] * 18, {1, 2, 5, 6, 8}),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_is_read_is_brought_first_and_no_more(what):
    asked, parts = ASKED[what]
    table = Table()
    assert np.array_equal(table.rows[asked], table.right[asked])
    assert table.brought == parts


def test_ids_drawn_at_random_are_right():
    rng = np.random.default_rng(0)
    for _ in range(300):
        table = Table()
        low, high, step = rng.integers(-25, 25, 3)
        cut = slice(low, high, step or 1)
        assert np.array_equal(table.rows[cut], table.right[cut])
        ids = rng.integers(-18, 18, rng.integers(0, 6))
        assert np.array_equal(table.rows.after(ids)["number"][ids], table.right["number"][ids])


@pytest.mark.parametrize("beyond", [18, -19, [3, 18], np.array([-40])])
def test_a_row_that_does_not_exist_is_refused_as_numpy_does(beyond):
    with pytest.raises(IndexError):
        Table().rows[beyond]


def test_it_is_an_array_to_whoever_reads_it_whole():
    table = Table()
    assert (len(table.rows), table.rows.shape) == (18, (18,))
    assert (table.rows.dtype, table.rows.nbytes) == (DTYPE, table.right.nbytes)
    assert not table.brought
    assert [row["number"] for row in table.rows] == table.right["number"].tolist()
    for number in range(3):
        assert np.array_equal(np.asarray(table.rows), table.right), number
    assert np.array_equal(np.concatenate([Table().rows, table.rows])[:18], table.right)


def test_a_whole_table_asks_for_nothing_any_more():
    table = Table()
    table.rows["number"]
    table.brought.clear()
    assert table.rows[3] == table.right[3]
    assert not table.brought


def test_as_many_rows_as_parts_are_not_all_of_them():
    table = Table()
    table.rows[np.zeros(len(SIZES), int)]
    assert table.rows[17] == table.right[17]
