"""The centre and the four corners of the resized image, of one decoding: torchvision's FiveCrop
after Resize.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from shards.augment.crops import resized_sizes
from shards.decode.decoder import Decoder, picture

NUM_CROPS = 5


def five_crops_into(
    out: np.ndarray, decoder: Decoder, data: np.ndarray, width: int, height: int, share: float
) -> None:
    """Resize the short side of an image to size / share, cut five squares into `out`, uint8 [5,
    size, size, 3 or 1].

    Centre, top left, top right, bottom left, bottom right. Together they show nearly all of the
    image, so it is decoded whole, by the filter of the evaluation's single crop.
    """
    size = out.shape[1]
    resized_w, resized_h = (
        int(side) for side in resized_sizes(np.array(width), np.array(height), size, share)
    )
    whole = picture(decoder.box(data, width, height, (0, 0, width, height), out.shape[3]))
    pixels = np.asarray(whole.resize((resized_w, resized_h), Image.Resampling.BILINEAR))
    pixels = pixels.reshape(resized_h, resized_w, out.shape[3])
    for crop, (x, y) in zip(out, _places(resized_w - size, resized_h - size), strict=True):
        crop[:] = pixels[y : y + size, x : x + size]


def _places(right: int, bottom: int) -> Iterable[tuple[int, int]]:
    """Tell the left and upper edges of the five, of which the last is at (right, bottom)."""
    return (round(right / 2), round(bottom / 2)), (0, 0), (right, 0), (0, bottom), (right, bottom)
