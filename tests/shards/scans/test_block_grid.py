"""The order of blocks in scans of one component and of several."""

import numpy as np
import pytest

from shards.scans.block_grid import Grid

FACTORS = [(2, 2), (1, 1), (1, 1)]


def test_orders():
    """25 x 9 pixels of 4:2:0: one row of two MCUs, of whose luma 4 x 2 blocks all show the image."""
    grid = Grid(25, 9, FACTORS)
    order, components = grid.order([0])
    np.testing.assert_array_equal(order, [0, 1, 6, 7, 2, 3, 8, 9])
    np.testing.assert_array_equal(components, [0])
    np.testing.assert_array_equal(grid.order([2])[0], [5, 11])
    order, components = grid.order([0, 2])
    np.testing.assert_array_equal(order, [0, 1, 2, 3, 5, 6, 7, 8, 9, 11])
    np.testing.assert_array_equal(components, [0, 0, 0, 0, 1])


def test_a_scan_of_one_component_leaves_padding_out():
    """17 x 8 pixels show 3 x 1 luma blocks of 4 x 2; the others take the DC of the one before in
    their MCU.
    """
    grid = Grid(17, 8, FACTORS)
    np.testing.assert_array_equal(grid.order([0])[0], [0, 1, 6])
    coefficients = np.zeros((12, 64), np.int16)
    coefficients[[0, 1, 4, 5, 6, 10, 11], 0] = [10, 11, 14, 15, 16, 20, 21]
    grid.fill_padding(coefficients)
    np.testing.assert_array_equal(
        coefficients[:, 0], [10, 11, 11, 11, 14, 15, 16, 16, 16, 16, 20, 21]
    )
    assert not coefficients[:, 1:].any()


@pytest.mark.parametrize(
    ("side", "factors"),
    [(64, [(4, 2), (2, 1), (1, 1)]), (65_500, [(1, 1)] * 3), (65_500, [(1, 1)])],
    ids=str,
)
def test_too_many_blocks(side, factors):
    with pytest.raises(ValueError, match="too many blocks"):
        Grid(side, side, factors)
