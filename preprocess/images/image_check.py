"""Decode an image of a shard completely and return what is wrong with it."""

import io
import warnings

import numpy as np
from PIL import Image

from shards.disk.format import MAX_PIXELS
from shards.errors import one_line
from shards.scans.damage import UNKNOWN_SAMPLING, decode_stored
from shards.tiles.cut import MISMATCH, read_headers


def what_is_wrong(data: np.ndarray, suffix: str, width: int, height: int) -> str | None:
    """Return why the bytes of an image member, uint8 [length], are not an image of this size; None
    if they are.

    The size is compared before anything is decoded, so a false header costs no memory.
    """
    if width * height > MAX_PIXELS:
        return f"{suffix}: {width} x {height} is more than {MAX_PIXELS:,} pixels"
    kind = suffix.rpartition(".")[2]
    check = {"jpg": _jpeg, "png": _png}.get(kind)
    if check is None:
        return f"{suffix}: not an image that is read here"
    what = check(data, width, height)
    return None if what is None else f"{suffix}: {what}"


def _jpeg(data: np.ndarray, width: int, height: int) -> str | None:
    headers = read_headers(data, width, height)
    if headers[0] == MISMATCH:
        return f"not a JPEG of the {width} x {height} pixels that its JSON tells"
    try:
        pixels = decode_stored(data, "GRAY" if data[headers[2] + 9] == 1 else "RGB")
    except ValueError as error:
        if UNKNOWN_SAMPLING in str(error):
            return "JPEG whose colours are sampled in a way that readers do not know"
        return f"damaged JPEG ({one_line(error)})"
    if pixels.shape[:2] != (height, width):
        return f"decodes to {pixels.shape[1]} x {pixels.shape[0]} pixels, its JSON tells {width} x {height}"
    return _tiles(data, width, height, headers)


def _tiles(data: np.ndarray, width: int, height: int, headers: tuple[int, ...]) -> str | None:
    """Follow the list of tiles from the first to the end of the image, where there is a list."""
    status, start, _, mcu_w, mcu_h, interval, at, listed = headers
    if status != 1 or not listed:
        return None
    mcus = -(-width // mcu_w)
    rows = -(-height // mcu_h)
    if interval == 0 or mcus % interval or listed != mcus // interval * rows:
        return f"its list has {listed} tiles, which its {mcus} x {rows} MCUs at an interval of {interval} do not have"
    lengths = np.frombuffer(data[at : at + 2 * listed].tobytes(), ">u2").astype(np.int64)
    ends = start + np.cumsum(lengths + 2) - 2
    markers = 0xD0 + np.arange(listed) % 8
    markers[-1] = 0xD9
    if ends[-1] + 2 != len(data) or (data[ends] != 0xFF).any() or (data[ends + 1] != markers).any():
        return "its list of tiles does not lead from marker to marker"
    return None


def _png(data: np.ndarray, width: int, height: int) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size was compared
            image = Image.open(io.BytesIO(data.tobytes()), formats=("PNG",))
            if image.size != (width, height):
                return f"{image.width} x {image.height} pixels, its JSON tells {width} x {height}"
            image.load()
    except Exception as error:  # on damaged bytes Pillow's parsers raise almost anything
        return f"damaged PNG ({one_line(error)})"
    return None
