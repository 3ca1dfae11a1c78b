"""A first look at a JPEG's headers."""

import struct
from dataclasses import dataclass

from shards.scans.headers import segments_of

_FRAMES = (0xC0, 0xC1, 0xC2)
_METADATA = 0xE1  # EXIF and XMP
_SCAN = 0xDA


@dataclass(frozen=True)
class Glance:
    """What the segments before the first scan say."""

    width: int
    height: int
    has_metadata: bool  # which may say that the image is turned


def glance(data: bytes) -> Glance | None:
    """Look at a file's first segments; None where it is no JPEG of a kind that is read here."""
    size = None
    has_metadata = False
    try:
        for marker, start, _ in segments_of(data):
            if marker in _FRAMES:
                size = struct.unpack_from(">HH", data, start + 1)
            has_metadata |= marker == _METADATA
            if marker == _SCAN:
                break
    except (IndexError, struct.error, ValueError):
        return None
    return None if size is None else Glance(size[1], size[0], has_metadata)
