"""Every kind of pixel in PNG and TIFF: those that NumPy computes from what was stored, or one clear
reject.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import decode_image, pack_image
from preprocess.images.outcome import BadImage

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 24, 31
GREY = RNG.integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
COLOUR = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
COLOUR[5:9] = COLOUR[2, 2]
COLOUR[9:12] = COLOUR[2, 2] ^ 1  # another colour, with the same high bytes
ALPHA = RNG.integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def packed_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Pack rows of values, uint8 [rows, bytes]."""
    if bits == 16:
        return values.astype(">u2").reshape(len(values), -1).view(np.uint8)
    places = np.arange(bits - 1, -1, -1)
    each = values.reshape(len(values), -1, 1) >> places & 1
    return np.packbits(each.reshape(len(values), -1).astype(np.uint8), axis=1)


def png(
    values: np.ndarray, bits: int, kind: int, transparent: bytes = b"", palette: bytes = b""
) -> bytes:
    rows = packed_bits(values, bits)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header)]
    parts += [chunk(b"PLTE", palette)] if palette else []
    parts += [chunk(b"tRNS", transparent)] if transparent else []
    parts += [
        chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, 2)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    shares = alpha[..., None] / np.iinfo(alpha.dtype).max
    return np.rint(colours * shares + 255 * (1 - shares))


def cases() -> dict[str, tuple[bytes, np.ndarray]]:
    """Map a name to a file and the pixels that it has."""
    high, deep = grey(GREY >> 8), COLOUR >> 8
    clear = struct.pack(">H", GREY[3, 4])
    first = struct.pack(">HHH", *COLOUR[2, 2])
    is_first = (COLOUR[2, 2] == COLOUR).all(2)[..., None]
    found = {
        "png grey 16": (png(GREY, 16, 0), high),
        "png grey 16, a value transparent": (
            png(GREY, 16, 0, clear),
            np.where(grey(GREY[3, 4] == GREY), 255, high),
        ),
        "png grey 16, alpha": (png(np.dstack([GREY, ALPHA]), 16, 4), on_white(high, ALPHA)),
        "png colour 16": (png(COLOUR, 16, 2), deep),
        "png colour 16, one transparent": (
            png(COLOUR, 16, 2, first),
            np.where(is_first, 255, deep),
        ),
        "png colour 16, alpha": (png(np.dstack([COLOUR, ALPHA]), 16, 6), on_white(deep, ALPHA)),
    }
    for bits in (1, 2, 4, 8):
        values, most = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH)), (1 << bits) - 1
        shown, one = grey(values * 255 // most), grey(values == 1)
        palette, alphas = (
            RNG.integers(0, 256, (1 << bits, 3)),
            RNG.integers(0, 256, 1 << bits).astype(np.uint8),
        )
        entries = palette.astype(np.uint8).tobytes()
        found |= {
            f"png grey {bits}": (png(values, bits, 0), shown),
            f"png grey {bits}, a value transparent": (
                png(values, bits, 0, b"\0\1"),
                np.where(one, 255, shown),
            ),
            f"png palette {bits}": (png(values, bits, 3, palette=entries), palette[values]),
            f"png palette {bits}, alpha": (
                png(values, bits, 3, alphas.tobytes(), entries),
                on_white(palette[values], alphas[values]),
            ),
        }
    for order in "<>":
        for kind, turn in (("minisblack", 0), ("miniswhite", 255)):
            for options in ({}, {"bigtiff": True}, {"compression": "zlib", "predictor": 2}):
                name = f"tiff grey 16 {order} {kind} {' '.join(options)}"
                found[name] = tiff(GREY, byteorder=order, photometric=kind, **options), high ^ turn
            found[f"tiff grey 8 {order} {kind}"] = (
                tiff((GREY >> 8).astype(np.uint8), byteorder=order, photometric=kind),
                high ^ turn,
            )
        for planes in ("contig", "separate"):
            for compression in (None, "zlib"):
                options = {
                    "byteorder": order,
                    "planarconfig": planes,
                    "compression": compression,
                    "photometric": "rgb",
                }
                axis = 0 if planes == "separate" else 2
                name = f"{order} {planes} {compression}"
                both = np.ascontiguousarray(np.moveaxis(np.dstack([COLOUR, ALPHA]), 2, axis))
                colours = np.ascontiguousarray(np.moveaxis(COLOUR, 2, axis))
                found |= {
                    f"tiff colour 16 {name}": (
                        tiff(colours, **options),
                        deep,
                    ),
                    f"tiff colour 16 alpha {name}": (
                        tiff(both, extrasamples=["unassalpha"], **options),
                        on_white(deep, ALPHA),
                    ),
                }
    found["tiff grey 16, alpha"] = (
        tiff(
            np.dstack([GREY, ALPHA]),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        ),
        on_white(high, ALPHA),
    )
    found["tiff of two pages"] = (
        tiff((np.stack([GREY, ~GREY]) >> 8).astype(np.uint8), photometric="minisblack"),
        high,
    )
    return found


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_those_that_were_stored(name):
    data, expected = CASES[name]
    found = decode_image(data).astype(int)
    assert np.abs(found - expected).max() <= 1  # of alpha's rounding
    packed = pack_image(data, ImageOptions(encoding="png")).images["png"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(packed))), found)
    if "alpha" not in name:
        np.testing.assert_array_equal(found, expected)


def raw_tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """Make a little-endian TIFF of one strip of grey values of any number of bits."""
    coded = packed_bits(values, bits).tobytes()
    tags = [
        (256, WIDTH),
        (257, HEIGHT),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 200),
        (277, 1),
        (278, HEIGHT),
    ]
    tags.append((279, len(coded)))
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags
    )
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries).ljust(200, b"\0") + coded


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12])
def test_tiffs_of_few_or_odd_bits(bits, photometric):
    values = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH))
    shown = values * 255 // ((1 << bits) - 1) if bits < 8 else values >> (bits - 8)
    data = raw_tiff(values, bits, photometric)
    if bits == 12 and photometric == 0:
        with pytest.raises(BadImage, match="12 bits a value; convert it to unsigned 8 or 16 bits"):
            decode_image(data)
        return
    np.testing.assert_array_equal(decode_image(data), grey(shown if photometric else 255 - shown))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (GREY.astype(np.float16), "float16 values; convert it"),
        (GREY.astype(np.float32), "mode F"),
        (GREY.astype(np.float64), "float64 values; convert it"),
        (COLOUR.astype(np.float32), "float32 values; convert it"),
        (GREY.astype(np.uint32), "mode I"),
        (GREY.view(np.int16), "mode I"),
        ((GREY >> 8).astype(np.int8), "TIFF of signed integers"),
    ],
)
def test_values_without_a_range_are_refused(values, reason):
    data = tiff(values, photometric="rgb" if values.ndim == 3 else "minisblack")
    for function in (decode_image, lambda data: pack_image(data, ImageOptions())):
        with pytest.raises(BadImage, match=reason) as caught:
            function(data)
        assert "\n" not in str(caught.value)
