"""Follow the scan of a baseline JPEG to its last bit. Compiled, bounds kept."""

import numpy as np

from shards.host.compiled import compiled
from shards.scans.bits import COUNT, MAX_DC_CATEGORY, PADDING, POS, next_symbol, take


@compiled()
def follow_blocks(
    data: np.ndarray,
    num_mcus: int,
    interval: int,
    components: np.ndarray,
    dc: np.ndarray,
    ac: np.ndarray,
    state: np.ndarray,
) -> int:
    """Return the position of the marker after a scan, if nothing is between.

    `data` starts at the scan's first byte; `components` int64 [blocks of an MCU] gives each block's
    component; `dc` and `ac` uint16 [components, 65536] are decoding tables; `state` is a bit
    reader's, left as it is after the last bit. Where the scan is damaged the position is -1 - the
    blocks that were read.
    """
    block = 0
    for mcu in range(num_mcus):
        if state[PADDING] > state[COUNT]:
            return -1 - block
        if interval and mcu and mcu % interval == 0:
            pos = state[POS]
            if pos + 1 >= len(data) or data[pos] != 0xFF:
                return -1 - block
            if data[pos + 1] != 0xD0 + (mcu // interval - 1) % 8:
                return -1 - block
            state[:] = 0
            state[POS] = pos + 2
        for component in components:
            category = next_symbol(data, state, dc[component])
            if category < 0 or category > MAX_DC_CATEGORY:
                return -1 - block
            take(state, category)
            k = 1
            while k < 64:
                symbol = next_symbol(data, state, ac[component])
                size = symbol & 15
                k += (symbol >> 4) + 1
                if symbol < 0 or size > 10 or (size == 0 and symbol != 0 and symbol != 0xF0):
                    return -1 - block
                if k > 64 and symbol != 0:
                    return -1 - block
                take(state, size)
                if symbol == 0:
                    break
            block += 1
    if state[PADDING] > state[COUNT]:
        return -1 - block
    return state[POS]
