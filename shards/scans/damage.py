"""Say whether every block of a JPEG is there: for packing, indexing in place, verifying and
predicting.

libjpeg warns of lost blocks, and of harmless faults as well (bytes before a marker, no EOI at the
end). Where it warns, all scans are read here to their last bit, which distinguishes the two. It
costs a second decoding, but only then.
"""

import re
import struct
from typing import Any

import numpy as np
import simplejpeg

from shards.disk.format import TILES_NAME
from shards.errors import DamagedError, count_of, one_line
from shards.scans.bits import BUFFER, COUNT, PADDING, left_over, new_state
from shards.scans.block_grid import Grid
from shards.scans.headers import (
    AFTER_SCAN,
    Headers,
    layout,
    read_scan,
    read_segments,
    scans_of,
    segments_of,
    tables_of,
)
from shards.scans.progressive import follows, new_known, read_blocks, what_is_missing
from shards.scans.sequential import follow_blocks

_NEXT_MARKER = re.compile(rb"\xff([^\x00\xff])")  # as libjpeg finds it, over whatever is before
_SOS = 0xDA
_EOI = 0xD9
_WITHOUT_PAYLOAD = (0x01, *range(0xD0, 0xD9))  # TEM, RST, SOI
# not those of JFIF and Adobe, which say what the colours are
_METADATA = (*range(0xE1, 0xEE), 0xEF, 0xFE)

UNKNOWN_SAMPLING = "subsampling"  # TurboJPEG refuses to decode it, whole or not


def decode_whole(
    data: bytes | np.ndarray, colours: str, accept_damaged: bool = False, **how: Any
) -> np.ndarray:
    """Decode with simplejpeg and its options: uint8 [height, width, channels]. Harmless faults are
    passed over.

    Raises DamagedError where pixels are lost, unless they are accepted, and ValueError for what is
    no JPEG.
    """
    encoded = data if isinstance(data, bytes) else data.tobytes()
    try:
        pixels = simplejpeg.decode_jpeg(encoded, colours, strict=True, **how)
        why = None if accept_damaged else lacking(encoded)
    except ValueError as error:
        why = None if accept_damaged else damage(encoded, one_line(error))
        if why is None:
            # its headers have to be clean
            return simplejpeg.decode_jpeg(clean(encoded), colours, strict=False, **how)
    if why is not None:
        raise DamagedError(why)
    return pixels


def decode_stored(data: np.ndarray, colours: str, **how: Any) -> np.ndarray:
    """Decode an image of a shard, uint8 [bytes], as `decode_whole` does.

    What the packer wrote is refused with any fault: it had none. Another writer's file may have
    harmless ones.
    """
    try:
        return simplejpeg.decode_jpeg(data, colours, **how)
    except ValueError:
        if TILES_NAME in data[:64].tobytes():
            raise
    return decode_whole(data, colours, **how)


def damage(data: bytes, warning: str) -> str | None:
    """Say what is lost of a JPEG of which libjpeg says `warning`; None where every block is there.

    Of kinds that are not read here, such as arithmetic coding, the warning is the answer.
    """
    headers = Headers(quantised=False)
    try:
        mended = clean(data)
        segments = segments_of(mended)
        payload = read_segments(headers, mended, segments)
        if not payload:
            return warning
        if headers.progressive or payload[0] < len(headers.components):
            grid = Grid(
                headers.width,
                headers.height,
                [(c.horizontal, c.vertical) for c in headers.components],
            )
            read = read_blocks(
                grid, scans_of(headers, mended, segments, payload), headers.progressive, _is_filled
            )
            return read if isinstance(read, str) else None
        return _of_one_scan(headers, mended, payload)
    except (IndexError, struct.error, ValueError, StopIteration, RuntimeError):
        return None if UNKNOWN_SAMPLING in warning else warning


def lacking(data: bytes) -> str | None:
    """Say that a JPEG lacks scans though libjpeg warns of nothing: it decodes, but blurred or
    without colour.
    """
    identifiers = b""
    progressive = False
    number = 0
    try:
        for marker, start, end in segments_of(data):
            if 0xC0 <= marker <= 0xC2:
                identifiers = data[start + 6 : end : 3]
                progressive = marker == 0xC2
                known = new_known(len(identifiers))
            elif marker == _SOS:
                payload = data[start:end]
                number += 1
                if not progressive and payload[0] == len(identifiers):
                    return None
                first, last, bits = payload[-3:]
                members = [identifiers.index(identifier) for identifier in payload[1:-3:2]]
                if not follows(members, (first, last, bits >> 4, bits & 15), known, progressive):
                    return None
        return what_is_missing(known, number)
    except (IndexError, struct.error, ValueError, UnboundLocalError):
        return None  # of a kind that is not read here


def clean(data: bytes) -> bytes:
    """Copy a JPEG without metadata, bytes between segments and what follows the image, with EOI at
    its end.

    Raises ValueError for what does not begin as one.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("no SOI")
    parts = [data[:2]]
    at = 2
    while found := _NEXT_MARKER.search(data, at):
        marker = found[1][0]
        start = found.start(1)
        at = found.end()
        if marker == _EOI:
            break
        if marker in _WITHOUT_PAYLOAD:
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or end < at + 2:
            break
        if marker not in _METADATA:
            parts.append(b"\xff" + data[start:end])
        at = end
        if marker == _SOS:
            after = AFTER_SCAN.search(data, at)
            stop = after.start() if after else len(data)
            parts.append(data[at:stop].rstrip(b"\xff"))
            at = stop
    return b"".join([*parts, b"\xff\xd9"])


def _of_one_scan(headers: Headers, data: bytes, payload: bytes) -> str | None:
    """Say what is lost of the one scan of a baseline file."""
    members = read_scan(headers, payload)
    blocks, _, num_mcus = layout(headers)
    tables = tables_of(headers, "dc", members), tables_of(headers, "ac", members)
    after = AFTER_SCAN.search(data, headers.scan)
    assert after is not None  # EOI was added
    scan = np.frombuffer(data, np.uint8)[headers.scan : after.start()]
    state = new_state()
    end = follow_blocks(scan, num_mcus, headers.interval, blocks, *tables, state)
    if end < 0:
        share = (-1 - end) / (num_mcus * len(blocks))
        how = "is truncated" if state[PADDING] > state[COUNT] else "is damaged"
        return f"its scan {how}, after {share:.0%} of the image"
    num_left = left_over(state, len(scan))
    if num_left and (not _is_filled(scan, state) or _goes_on(scan, state, blocks, *tables)):
        return f"its scan is damaged: {count_of(num_left, 'byte')} left after the last block"
    return None


def _is_filled(scan: np.ndarray, state: np.ndarray) -> bool:
    """Tell whether the byte that the last block ends in is filled up with ones, as at the end of a
    whole scan.

    Where blocks before were damaged it is so in one of four cases.
    """
    unread = int(state[COUNT] - state[PADDING])
    ones = (1 << unread % 8) - 1
    return (int(state[BUFFER]) >> int(state[PADDING]) >> (unread - unread % 8)) & ones == ones


def _goes_on(
    scan: np.ndarray, state: np.ndarray, blocks: np.ndarray, dc: np.ndarray, ac: np.ndarray
) -> bool:
    """Tell whether what is left after the last block are more blocks, to the last bit: others must
    be lost then.
    """
    while left_over(state, len(scan)):
        end = follow_blocks(scan, 1, 0, blocks, dc, ac, state)
        if end < 0 or state[PADDING] > state[COUNT]:
            return False
    return _is_filled(scan, state)
