"""What becomes of one image: packed, with the sums of its pixels, or refused with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass

DAMAGED = "damaged JPEG: "  # what the reasons of images begin with that --accept-damaged packs


class BadImage(ValueError):
    """The bytes are not a usable photograph; the message is the reason, in one line."""


class DamagedImage(BadImage):
    """Pixels of a photograph are lost, though it can be decoded: `--accept-damaged` packs it all
    the same.
    """


@dataclass(frozen=True)
class Packed:
    """The members of a packed image by suffix, and the exact sums of its pixels: from which the
    statistics follow.

    The sums run over the C channels (R, G, B, then further bands; values 0 to 255): of a re-encoded
    image, just before that. `damage` says which pixels were lost before; "" where none were.
    """

    images: Mapping[str, bytes]
    width: int
    height: int
    pixel_sum: tuple[int, ...]
    pixel_sum_squares: tuple[int, ...]
    damage: str = ""
