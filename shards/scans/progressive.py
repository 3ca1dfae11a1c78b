"""Read a JPEG of several scans, progressive or not, into its coefficients: what the writer of tiles
needs.

ITU-T T.81, annexes F and G. Stricter than libjpeg: what it would only warn of is damage here, and
so is a bit of a coefficient that no scan brings, since decoders then smooth the blocks. Compiled,
bounds kept.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.host.compiled import compiled
from shards.scans.bits import (
    BUFFER,
    COUNT,
    MAX_DC_CATEGORY,
    PADDING,
    POS,
    fill,
    left_over,
    new_state,
    next_symbol,
    take,
)
from shards.scans.block_grid import Grid

# a bit reader's state has one more here: blocks that are still to skip, as an end-of-band run says
_RUN = 4
_MAX_SCANS = 100  # libjpeg writes 10
_MAX_AC_CATEGORY = 10
_MAX_LOW = 9  # the highest bit of such a coefficient


@dataclass(frozen=True)
class Scan:
    """A scan and what is in force for it.

    `band` is its first and last coefficient (zigzag), then the bit from which it takes these, 0 for
    the first time, and to which. `components` are numbers in the frame, `interval` is in MCUs, 0
    for none. `dc` and `ac` uint16 [components of the scan, 65536] are decoding tables, without rows
    where not needed. `data` uint8 [bytes] is all up to the next marker that is not RST.
    """

    components: list[int]
    band: tuple[int, int, int, int]
    interval: int
    dc: np.ndarray
    ac: np.ndarray
    data: np.ndarray


def read_scans(grid: Grid, scans: Iterable[Scan], progressive: bool) -> np.ndarray | None:
    """Read all scans: coefficients int16 [blocks, 64] (zigzag) in the order of one interleaved scan.

    None if they are damaged.
    """
    coefficients = read_blocks(grid, scans, progressive, lambda data, state: False)
    if isinstance(coefficients, str):
        return None
    grid.fill_padding(coefficients)
    return coefficients


def read_blocks(
    grid: Grid,
    scans: Iterable[Scan],
    progressive: bool,
    may_follow: Callable[[np.ndarray, np.ndarray], bool],
) -> np.ndarray | str:
    """Read all scans: coefficients int16 [blocks, 64] (zigzag), or what is damaged.

    `may_follow(bytes, state of the reader)` says whether bytes of a scan after its last block are
    harmless.
    """
    coefficients = np.zeros((grid.num_blocks, 64), np.int16)
    known = new_known(grid.num_components)
    number = 0
    for number, scan in enumerate(scans, 1):
        if number > _MAX_SCANS:
            return f"it has more than {_MAX_SCANS} scans"
        if not follows(scan.components, scan.band, known, progressive):
            return f"scan {number} does not go on from those before it"
        places = grid.order(scan.components)
        state = new_state()
        if not _read_scan(
            scan.data, coefficients, *places, scan.band, scan.interval, scan.dc, scan.ac, state
        ):
            return f"scan {number} is damaged or truncated"
        if left_over(state, len(scan.data)) and not may_follow(scan.data, state):
            return f"scan {number} is damaged: not all of its bytes are of its blocks"
    missing = what_is_missing(known, number)
    return coefficients if missing is None else missing


def new_known(num_components: int) -> np.ndarray:
    """Make int64 [components, 64]: the lowest bit of each coefficient that scans have brought, -1
    before the first.
    """
    return np.full((num_components, 64), -1)


def what_is_missing(known: np.ndarray, num_scans: int) -> str | None:
    """Say that scans are missing, where some bits of some coefficients never came."""
    if not known.any():
        return None
    return f"its {num_scans} scans bring only part of the image: the last bit of {np.mean(known == 0):.0%} of it"


def follows(
    components: list[int], band: tuple[int, int, int, int], known: np.ndarray, progressive: bool
) -> bool:
    """Note in `known` what a scan brings; False where it does not take up what those before it have
    left.
    """
    first, last, high, low = band
    before = known[components, first : last + 1]
    if not progressive:
        fits = band == (0, 63, 0, 0)
    elif first == 0:
        fits = last == 0
    else:
        fits = first <= last < 64 and len(components) == 1 and known[components[0], 0] >= 0
    if high:
        fits = bool(fits and progressive and low == high - 1 and (before == high).all())
    else:
        fits = bool(fits and low <= _MAX_LOW and (before == -1).all())
    if fits:
        known[components, first : last + 1] = low
    return fits


@compiled()
def _read_scan(
    data: np.ndarray,
    coefficients: np.ndarray,
    order: np.ndarray,
    components: np.ndarray,
    band: tuple[int, int, int, int],
    interval: int,
    dc: np.ndarray,
    ac: np.ndarray,
    state: np.ndarray,
) -> bool:
    """Add a scan to `coefficients` int16 [blocks, 64] (zigzag); False where it is damaged.

    `order` int64 [blocks of the scan] numbers the blocks, `components` int64 [blocks of an MCU]
    their DC and AC tables. `state` is a bit reader's, left as it is after the last bit.
    """
    first, last, high, low = band
    predicted = np.zeros(4, np.int64)
    per_mcu = len(components)
    longest = 0 if first == 0 else 14  # sequential scans have no end-of-band runs
    for i in range(len(order)):
        if i % per_mcu == 0 and i:
            mcu = i // per_mcu
            if state[PADDING] > state[COUNT]:
                return False
            if interval and mcu % interval == 0:
                if not _restart(data, state, mcu // interval - 1):
                    return False
                predicted[:] = 0
        block = coefficients[order[i]]
        component = components[i % per_mcu]
        if first == 0:
            if high:
                fill(data, state)
                block[0] |= take(state, 1) << low
            elif not _read_dc(data, state, dc[component], predicted, component, block, low):
                return False
        if last and high:
            if not _refine_ac(data, state, ac[component], block, first, last, low):
                return False
        elif last and not _read_ac(
            data, state, ac[component], block, max(first, 1), last, low, longest
        ):
            return False
    return bool(state[PADDING] <= state[COUNT] and state[_RUN] == 0)


@compiled()
def _restart(data: np.ndarray, state: np.ndarray, number: int) -> bool:
    pos = state[POS]
    if (
        state[_RUN]
        or pos + 1 >= len(data)
        or data[pos] != 0xFF
        or data[pos + 1] != 0xD0 + number % 8
    ):
        return False
    state[:] = 0
    state[POS] = pos + 2
    return True


@compiled(inline="always")
def _extended(state: np.ndarray, category: int) -> Any:
    """Read a signed number of `category` bits (T.81, F.2.2.1)."""
    value = take(state, category)
    if category and value < 1 << (category - 1):
        value -= (1 << category) - 1
    return value


@compiled(inline="always")
def _read_dc(
    data: np.ndarray,
    state: np.ndarray,
    table: np.ndarray,
    predicted: np.ndarray,
    component: int,
    block: np.ndarray,
    low: int,
) -> bool:
    category = next_symbol(data, state, table)
    if category < 0 or category > MAX_DC_CATEGORY:
        return False
    predicted[component] += _extended(state, category)
    level = predicted[component] << low
    block[0] = level
    # of 8-bit samples; their differences are in no higher category either
    return -1024 <= level < 1024


@compiled(inline="always")
def _read_ac(
    data: np.ndarray,
    state: np.ndarray,
    table: np.ndarray,
    block: np.ndarray,
    k: int,
    last: int,
    low: int,
    longest: int,
) -> bool:
    """Read the highest bits of coefficients `k` to `last` of a block (G.1.2.2)."""
    if state[_RUN]:
        state[_RUN] -= 1
        return True
    while k <= last:
        symbol = next_symbol(data, state, table)
        run = symbol >> 4
        size = symbol & 15
        if symbol < 0 or (size and size + low > _MAX_AC_CATEGORY):
            return False
        if size == 0 and run < 15:
            if run > longest:
                return False
            state[_RUN] = (1 << run) - 1 + take(state, run)
            return True
        k += run
        if k > last:
            return False
        block[k] = _extended(state, size) << low
        k += 1
    return True


@compiled(inline="always")
def _refine_ac(
    data: np.ndarray,
    state: np.ndarray,
    table: np.ndarray,
    block: np.ndarray,
    k: int,
    last: int,
    low: int,
) -> bool:
    """Read one more bit of coefficients `k` to `last` of a block (G.1.2.3)."""
    while k <= last and state[_RUN] == 0:
        symbol = next_symbol(data, state, table)
        run = symbol >> 4
        size = symbol & 15
        if symbol < 0 or size > 1:
            return False
        if size == 0 and run < 15:
            state[_RUN] = (1 << run) + take(state, run)
            break
        value = (2 * take(state, 1) - 1) << low if size else 0
        k = _refine_past(data, state, block, k, last, low, run)
        if k > last:
            return False
        block[k] = value
        k += 1
    if state[_RUN]:
        _refine_past(data, state, block, k, last, low, 64)
        state[_RUN] -= 1
    return True


@compiled(inline="always")
def _refine_past(
    data: np.ndarray, state: np.ndarray, block: np.ndarray, k: int, last: int, low: int, zeros: int
) -> int:
    """Correct the coefficients from `k` on that are not zero, up to the zero after `zeros` others;
    return where it is.

    Where there are not so many, return last + 1.
    """
    # In registers, as most of the time goes here.
    count = state[COUNT]
    buffer = state[BUFFER]
    while k <= last:
        level = np.int64(block[k])
        if level == 0:
            if zeros == 0:
                break
            zeros -= 1
        else:
            if count == 0:
                state[COUNT] = count
                fill(data, state)
                count = state[COUNT]
                buffer = state[BUFFER]
            count -= 1
            more = ((buffer >> count) & 1) << low
            block[k] = level + (more if level > 0 else -more)
        k += 1
    state[COUNT] = count
    return k
