"""How photographs are packed: as which members, at what size, and how rows are divided into tiles."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from shards.disk.format import MAX_TILES
from shards.errors import DataError

MAX_SIDE = 65_500  # libjpeg's limit
_MCU = 16  # pixels: width and height of a 4:2:0 MCU
_MAX_STRETCH = 0.016  # just enough to pack 4:3 at short side 256 as 336 x 256 instead of 341 x 256


Encoding = Literal["jpg", "png"]
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Band:
    """A band of multispectral images: its position in the file, and which of the file's values
    become 0 and 255.
    """

    name: str
    position: int
    low: float
    high: float


@dataclass(frozen=True)
class ImageOptions:
    """How photographs are packed.

    `max_side` and `short_side` are in pixels, 0 keeps the original size, at most one may be given,
    neither enlarges. `quality` (1 to 100) is of re-encoded JPEGs. These are 4:2:0, as cameras write
    them: half the blocks of 4:4:4 to store and to decode, and few photographs have finer colour to
    lose. `encoding` png stores pixels without loss, for images too small for JPEG's blocks. `bands`
    are of multispectral TIFFs: red, green and blue, then what is stored as a grey image of its own
    each.
    """

    max_side: int = 0
    short_side: int = 0
    quality: int = 90
    encoding: Encoding = "jpg"
    bands: tuple[Band, ...] = ()

    def __post_init__(self) -> None:
        """Raise DataError for a value out of range."""
        for name in ("max_side", "short_side"):
            if not 0 <= getattr(self, name) <= MAX_SIDE:
                flag = name.replace("_", "-")
                raise DataError(
                    f"--{flag} is {getattr(self, name)}: give 0 (original size) to {MAX_SIDE}"
                )
        if self.max_side and self.short_side:
            raise DataError(
                f"--max-side {self.max_side} and --short-side {self.short_side} exclude each "
                f"other: give one of them"
            )
        if not 1 <= self.quality <= 100:
            raise DataError(f"--quality is {self.quality}: give 1 to 100")
        if self.encoding not in get_args(Encoding):
            raise DataError(f"--encoding is {self.encoding!r}: give jpg or png")
        names = tuple(band.name for band in self.bands)
        if names and (names[:3] != RGB or len(set(names)) < len(names)):
            raise DataError(
                f"bands {', '.join(names)}: the first three must be {', '.join(RGB)}, the others "
                f"different"
            )

    @property
    def members(self) -> tuple[str, ...]:
        """Name a sample's image members by their suffixes: jpg, nir.jpg."""
        return (self.encoding, *(f"{band.name}.{self.encoding}" for band in self.bands[3:]))

    @property
    def num_channels(self) -> int:
        return 2 + len(self.members)


def preloaded_for(options: ImageOptions) -> tuple[str, ...]:
    """Name the module whose import gets ready the code that packs a JPEG with these options."""
    if options.encoding != "jpg" or options.bands:
        return ()
    resized = options.short_side or options.max_side
    return (f"preprocess.images.preload_{'resized' if resized else 'kept'}",)


@lru_cache(4096)
def tile_interval(mcus_per_row: int, num_rows: int = 1, wanted: int = 4) -> int:
    """Return the restart interval in MCUs: the divisor of a row, other than 1, nearest to 4
    (`wanted`) by ratio.

    Smaller tiles let a crop skip more, larger ones cost fewer bytes: over 189 VOC photographs this
    rule costs 0.7% at the original size (worst image 1.8%) and 1.0% at short side 256 (worst 3.9%);
    an interval of 2 everywhere would cost 1.4% and 1.9%. Of a very large image no more tiles are
    made than the format has room to list.
    """
    if mcus_per_row < 1:
        raise ValueError(f"mcus_per_row={mcus_per_row} must be at least 1")
    divisors = (d for d in range(2, mcus_per_row + 1) if mcus_per_row % d == 0)
    possible = [d for d in divisors if mcus_per_row // d * num_rows <= MAX_TILES]
    return min(possible, key=lambda d: abs(math.log2(d / wanted)), default=mcus_per_row)


def grey_interval(mcus_per_row: int, num_rows: int = 1) -> int:
    """Return the restart interval of a grey image, whose MCUs are half as wide and high: tiles as
    wide as of RGB.
    """
    return tile_interval(mcus_per_row, num_rows, 8)


@lru_cache(4096)
def packed_size(size: tuple[int, int], options: ImageOptions) -> tuple[int, int]:
    """Return (width, height) in pixels after packing an upright image of `size`.

    Where the size of a JPEG changes at all, the width is moved by at most 1.6% if that lets the
    MCUs of a row have a divisor in 3..8, so that they can be tiled well. Never larger than the
    original, nor smaller than `short_side`.
    """
    width, height = size
    if options.short_side:
        ratio = options.short_side / min(size)
    elif options.max_side:
        ratio = options.max_side / max(size)
    else:
        return size
    if ratio >= 1:
        return size
    exact = width * ratio
    low = options.short_side or 1
    high = min(width, options.max_side or width)
    packed_width = (
        _tileable_width(exact, low, high)
        if options.encoding == "jpg"
        else min(max(round(exact), low), high)
    )
    return packed_width, max(1, round(height * ratio))


def _tileable_width(exact: float, low: int, high: int) -> int:
    width = min(max(round(exact), low), high)
    least = math.ceil(exact * (1 - _MAX_STRETCH))
    most = math.floor(exact * (1 + _MAX_STRETCH))
    near = range(max(low, least), min(high, most) + 1)
    good = [w for w in (width, *near) if any(-(-w // _MCU) % d == 0 for d in range(3, 9))]
    return min(good, key=lambda w: abs(w - exact), default=width)
