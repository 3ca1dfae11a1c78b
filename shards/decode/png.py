"""Decode PNG members: 8-bit RGB or grey, of the size that the index tells, exact."""

import cv2
import numpy as np

from shards.errors import SampleError
from shards.host.compiled import compiled

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIGNATURE = np.frombuffer(SIGNATURE, np.uint8)
_HEADER_BYTES = 26  # signature, length and name of IHDR, then width, height, bits, kind
_KINDS = {1: 0, 3: 2}  # channels -> colour type: grey, RGB


@compiled(nogil=True)
def is_png(data: np.ndarray) -> bool:
    """Tell a PNG by its signature. Without the GIL: the first look at mapped bytes may wait for the
    disk.
    """
    if len(data) < len(_SIGNATURE):
        return False
    same = True
    for at in range(len(_SIGNATURE)):
        same &= data[at] == _SIGNATURE[at]
    return same


def decode_png(data: np.ndarray, width: int, height: int, channels: int) -> np.ndarray:
    """Decode a whole PNG: uint8 [height, width, channels], RGB or grey.

    The header is checked before anything is decoded. Raises SampleError without shard or key.
    """
    header = bytes(data[:_HEADER_BYTES])
    size = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    if (
        header[12:16] != b"IHDR"
        or size != (width, height)
        or header[24:26] != bytes([8, _KINDS[channels]])
    ):
        kind = "RGB" if channels == 3 else "grey"
        raise SampleError(
            f"not an 8-bit {kind} PNG of the {width} x {height} pixels that the index tells"
        )
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.reshape(height, width, -1).shape[2] != channels:
        raise SampleError("damaged PNG")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if channels == 3 else pixels[..., None]
