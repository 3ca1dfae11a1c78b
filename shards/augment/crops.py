"""Which part of each image is wanted, decided from the index before a byte is decoded."""

import math

import numpy as np

from shards.augment.hashing import hash3, uniform
from shards.host.compiled import compiled

ATTEMPTS = 10
RATIO = (3.0 / 4.0, 4.0 / 3.0)


@compiled(nogil=True)
def _random_resized(
    ids: np.ndarray,
    widths: np.ndarray,
    heights: np.ndarray,
    seed: int,
    epoch: int,
    low: float,
    high: float,
) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.empty((len(ids), 4), np.int64)
    flips = np.empty(len(ids), np.bool_)
    log_low = math.log(RATIO[0])
    log_high = math.log(RATIO[1])
    for i in range(len(ids)):
        key = hash3(np.uint64(seed) ^ np.uint64(0x43524F50), np.uint64(epoch), np.uint64(ids[i]))
        width = widths[i]
        height = heights[i]
        flips[i] = uniform(key, 0) < 0.5
        found = False
        for attempt in range(ATTEMPTS):
            draw = 1 + 4 * attempt
            area = width * height * (low + (high - low) * uniform(key, draw))
            ratio = math.exp(log_low + (log_high - log_low) * uniform(key, draw + 1))
            w = round(math.sqrt(area * ratio))
            h = round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                x = int(uniform(key, draw + 2) * (width - w + 1))
                y = int(uniform(key, draw + 3) * (height - h + 1))
                found = True
                break
        if not found:  # the whole image, cut to the nearest allowed ratio, in the middle
            w = width
            h = height
            if width < height * RATIO[0]:
                h = round(width / RATIO[0])
            elif width > height * RATIO[1]:
                w = round(height * RATIO[1])
            x = (width - w) // 2
            y = (height - h) // 2
        boxes[i, 0] = x
        boxes[i, 1] = y
        boxes[i, 2] = w
        boxes[i, 3] = h
    return boxes, flips


def random_resized_crops(
    ids: np.ndarray,
    widths: np.ndarray,
    heights: np.ndarray,
    seed: int,
    epoch: int,
    scale: tuple[float, float],
    flip: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw crop boxes (x, y, width, height) int64 [B, 4] and mirror flags bool [B].

    The distribution of torchvision's RandomResizedCrop with ratio 3/4 to 4/3 and a flip of
    probability 0.5; each sample's draw is a pure function of (seed, epoch, id). Without `flip`
    none is mirrored, and the boxes are the same.
    """
    widths = widths.astype(np.int64)
    heights = heights.astype(np.int64)
    boxes, mirrored = _random_resized(
        np.asarray(ids, np.int64), widths, heights, seed, epoch, scale[0], scale[1]
    )
    return boxes, mirrored & flip


def resized_sizes(
    widths: np.ndarray, heights: np.ndarray, size: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the sizes of images whose short side becomes size / share, int64; the long side is
    truncated.
    """
    short = round(size / share)
    # A damaged index may tell of 0 pixels: its sample is refused when it is read.
    widths = np.maximum(1, widths.astype(np.int64))
    heights = np.maximum(1, heights.astype(np.int64))
    landscape = widths >= heights
    return (
        np.where(landscape, short * widths // heights, short),
        np.where(landscape, short, short * heights // widths),
    )


def centre_crops(widths: np.ndarray, heights: np.ndarray, size: int, share: float) -> np.ndarray:
    """Find the source box of "resize the short side to size / share, cut the middle size x size":
    float64 [B, 4].

    Follows torchvision's Resize and CenterCrop to the pixel: offsets are rounded half to even; then
    they are mapped back through the two scale factors.
    """
    resized_w, resized_h = resized_sizes(widths, heights, size, share)
    left = np.rint((resized_w - size) / 2.0)
    top = np.rint((resized_h - size) / 2.0)
    x_scale = widths / resized_w
    y_scale = heights / resized_h
    return np.stack([left * x_scale, top * y_scale, size * x_scale, size * y_scale], axis=1)
