"""Augmentation of images that are seen whole, a batch at a time: pad and crop, mirror, cut a square
out.

Pad-and-crop is what networks for CIFAR are trained with: the image is padded by a few pixels on
each side and a window of its own size is cut out anywhere (He et al. 2015, section 4.2). The
padding reflects the image, as in Wide ResNets (Zagoruyko and Komodakis 2016) and the fast CIFAR
trainers since DAWNBench: no edge that is not in the photograph. The square is Cutout (DeVries and
Taylor 2017): its centre is any pixel of the view, so part of it may be outside. It is filled with
the mean colour of the split, which is 0 after normalisation, as in the paper's code.
"""

import numpy as np

from shards.augment.hashing import hash3, uniform
from shards.host.compiled import compiled
from shards.index import DatasetIndex

# Each purpose draws from numbers of its own.
_PAD_CROP = 0x50414443
_CUTOUT = 0x43555430


@compiled(nogil=True)
def _draw_windows(ids: np.ndarray, pad: int, seed: int, epoch: int) -> np.ndarray:
    out = np.empty((len(ids), 3), np.int64)
    for i in range(len(ids)):
        key = hash3(np.uint64(seed) ^ np.uint64(_PAD_CROP), np.uint64(epoch), np.uint64(ids[i]))
        out[i, 0] = int(uniform(key, 0) * (2 * pad + 1)) - pad
        out[i, 1] = int(uniform(key, 1) * (2 * pad + 1)) - pad
        out[i, 2] = uniform(key, 2) < 0.5
    return out


@compiled(nogil=True)
def _draw_holes(ids: np.ndarray, size: int, cutout: int, seed: int, epoch: int) -> np.ndarray:
    out = np.empty((len(ids), 2), np.int64)
    for i in range(len(ids)):
        key = hash3(np.uint64(seed) ^ np.uint64(_CUTOUT), np.uint64(epoch), np.uint64(ids[i]))
        out[i, 0] = int(uniform(key, 0) * size) - cutout // 2
        out[i, 1] = int(uniform(key, 1) * size) - cutout // 2
    return out


def draw_windows(ids: np.ndarray, pad: int, seed: int, epoch: int, flip: bool = True) -> np.ndarray:
    """Draw (left, top, mirrored) int64 [B, 3]: where the window starts, -pad to pad from the
    image's own corner.

    Each sample's draw is a pure function of (seed, epoch, id). Without `flip` none is mirrored.
    """
    windows: np.ndarray = _draw_windows(np.asarray(ids, np.int64), pad, seed, epoch)
    windows[:, 2] &= flip
    return windows


def draw_holes(ids: np.ndarray, size: int, cutout: int, seed: int, epoch: int) -> np.ndarray:
    """Draw (left, top) int64 [B, 2] of squares of `cutout` pixels, in the final view; parts may be
    outside of it.

    Each sample's draw is a pure function of (seed, epoch, id).
    """
    return _draw_holes(np.asarray(ids, np.int64), size, cutout, seed, epoch)


@compiled(nogil=True, inline="always")
def _reflected(at: int, size: int) -> int:
    """Mirror a position outside 0 to size - 1 at the edge's pixel, which is not repeated."""
    if at < 0:
        return -at
    return 2 * (size - 1) - at if at >= size else at


@compiled(nogil=True)
def pad_crop_into(
    out: np.ndarray, images: np.ndarray, numbers: np.ndarray, windows: np.ndarray
) -> None:
    """Write windows of padded images: out uint8 [B, size, size, C] of images uint8 [N, size, size,
    C], numbers [B].

    One pass over the output, without the GIL: a row is copied as a whole up to what is reflected or
    mirrored.
    """
    size = images.shape[1]
    channels = images.shape[3]
    columns = np.empty(size, np.int64)
    for i in range(len(numbers)):
        image = images[numbers[i]]
        left = windows[i, 0]
        top = windows[i, 1]
        mirrored = windows[i, 2] != 0
        for x in range(size):
            columns[size - 1 - x if mirrored else x] = _reflected(left + x, size)
        # The columns that need no reflection.
        first = max(0, -left)
        last = min(size, size - left)
        for y in range(size):
            row = image[_reflected(top + y, size)]
            target = out[i, y]
            if mirrored:
                for x in range(size):
                    for c in range(channels):
                        target[x, c] = row[columns[x], c]
            else:
                for x in range(first):
                    for c in range(channels):
                        target[x, c] = row[columns[x], c]
                target[first:last] = row[first + left : last + left]
                for x in range(last, size):
                    for c in range(channels):
                        target[x, c] = row[columns[x], c]


def cut_out(images: np.ndarray, holes: np.ndarray, cutout: int, colour: np.ndarray) -> None:
    """Fill squares of `cutout` pixels in images uint8 [B, size, size, C] with a colour uint8 [C]."""
    erase_boxes(images, np.concatenate([holes, holes + cutout], axis=1), colour)


@compiled(nogil=True)
def erase_boxes(images: np.ndarray, boxes: np.ndarray, colour: np.ndarray) -> None:
    """Fill boxes (left, top, right, bottom) int64 [B, 4] in images uint8 [B, H, W, C] with a colour
    uint8 [C]; parts of a box may be outside.
    """
    _, height, width, channels = images.shape
    for i in range(len(boxes)):
        for y in range(max(0, boxes[i, 1]), min(height, boxes[i, 3])):
            for x in range(max(0, boxes[i, 0]), min(width, boxes[i, 2])):
                for c in range(channels):
                    images[i, y, x, c] = colour[c]


def mean_colour(index: DatasetIndex) -> np.ndarray:
    """Tell the mean colour of a split, uint8 [C]: what normalisation with its statistics makes 0,
    nearly.
    """
    return np.rint(255 * np.asarray(index.statistics["mean"])).astype(np.uint8)
