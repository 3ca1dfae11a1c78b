"""Read the scan of a baseline JPEG: its coefficients, and where it ends. Compiled, bounds kept."""

import numpy as np

from shards.host.compiled import compiled
from shards.scans.bits import COUNT, MAX_DC_CATEGORY, PADDING, POS, next_symbol, take


@compiled()
def read_coefficients(
    data: np.ndarray,
    num_mcus: int,
    interval: int,
    components: np.ndarray,
    dc: np.ndarray,
    ac: np.ndarray,
    state: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Read a scan: DC int32 [blocks], AC token counts uint8 [blocks], tokens uint32 [tokens], next
    position.

    `data` starts at the scan's first byte; `components` int64 [blocks of an MCU] gives each block's
    component; `dc` and `ac` uint16 [components, 65536] are decoding tables; `state` is a bit
    reader's, left as it is after the last bit. A token is symbol << 16 | its extra bits. The
    position is that of the marker after the scan, if nothing is between; where the scan is damaged
    it is -1 - the blocks that were read.
    """
    per_mcu = len(components)
    levels = np.zeros(num_mcus * per_mcu, np.int32)
    counts = np.zeros(num_mcus * per_mcu, np.uint8)
    tokens = np.empty(min(64 * num_mcus * per_mcu, 8 * len(data)) + 1, np.uint32)
    predicted = np.zeros(4, np.int64)
    block = 0
    token = 0
    for mcu in range(num_mcus):
        if state[PADDING] > state[COUNT]:
            return levels, counts, tokens, -1 - block
        if interval and mcu and mcu % interval == 0:
            pos = state[POS]
            if pos + 1 >= len(data) or data[pos] != 0xFF:
                return levels, counts, tokens, -1 - block
            if data[pos + 1] != 0xD0 + (mcu // interval - 1) % 8:
                return levels, counts, tokens, -1 - block
            state[:] = 0
            state[POS] = pos + 2
            predicted[:] = 0
        for i in range(per_mcu):
            component = components[i]
            category = next_symbol(data, state, dc[component])
            if category < 0 or category > MAX_DC_CATEGORY:
                return levels, counts, tokens, -1 - block
            value = take(state, category)
            if category and value < 1 << (category - 1):
                value -= (1 << category) - 1
            predicted[component] += value
            levels[block] = predicted[component]
            k = 1
            first = token
            while k < 64:
                symbol = next_symbol(data, state, ac[component])
                size = symbol & 15
                k += (symbol >> 4) + 1
                if symbol < 0 or size > 10 or (size == 0 and symbol != 0 and symbol != 0xF0):
                    return levels, counts, tokens, -1 - block
                if (k > 64 and symbol != 0) or token >= len(tokens) - 1:
                    return levels, counts, tokens, -1 - block
                tokens[token] = (symbol << 16) | take(state, size)
                token += 1
                if symbol == 0:
                    break
            counts[block] = token - first
            block += 1
    if state[PADDING] > state[COUNT]:
        return levels, counts, tokens, -1 - block
    return levels, counts, tokens[:token], state[POS]
