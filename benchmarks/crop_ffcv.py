"""Let FFCV itself cut crops, in its own environment: `python crop_ffcv.py JPEGS.npz CROPS.npy`.

The calls are those of its RandomResizedCropRGBImageDecoder: the compiled `imdecode` on the whole
JPEG, then the compiled `resize_crop` on the box, into the output.
"""

import sys

import numpy as np
from ffcv.libffcv import imdecode, resize_crop


def main() -> None:
    """Read JPEGs with their boxes, write uint8 [N, size, size, 3]."""
    given = np.load(sys.argv[1])
    size = int(given["size"])
    crops = np.empty((len(given["boxes"]), size, size, 3), np.uint8)
    ends = np.cumsum(given["lengths"])
    for crop, end, length, (x, y, w, h), (width, height) in zip(
        crops,
        ends,
        given["lengths"],
        given["boxes"].tolist(),
        given["extents"].tolist(),
        strict=True,
    ):
        data, pixels = given["data"][end - length : end], np.empty((height, width, 3), np.uint8)
        if imdecode(data, pixels, height, width, height, width, 0, 0, 1, 1, False, False):
            raise RuntimeError("FFCV cannot decode a packed JPEG")
        resize_crop(pixels, y, y + h, x, x + w, crop)
    np.save(sys.argv[2], crops)


if __name__ == "__main__":
    main()
