"""Small pictures as data URIs, so that a report is one file."""

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

Thumbnail = Callable[[int], np.ndarray]  # sample number -> uint8 [H, W, 3] RGB

LONG_SIDE = 128  # pixels; shown at about 100 CSS pixels
JPEG_QUALITY = 80  # about 4 KB for a photograph: 500 of them make a 3 MB report


class ThumbnailCache:
    """Encode each sample's picture once, however many galleries show it."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self._thumbnail = thumbnail
        self._uris: dict[int, str] = {}

    def data_uri(self, index: int) -> str:
        """Return the picture of sample `index` as a data URI."""
        if index not in self._uris:
            self._uris[index] = encode(self._thumbnail(index))
        return self._uris[index]


def encode(image: np.ndarray) -> str:
    """Shrink uint8 [H, W, 3] RGB to at most `LONG_SIDE`, never enlarge it, and return a JPEG data URI."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a thumbnail must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    picture = Image.fromarray(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
