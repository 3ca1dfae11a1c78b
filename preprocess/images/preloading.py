"""Get the packer's compiled code ready before it is needed."""

import gc
import io
from contextlib import suppress

from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import pack_image


def get_ready(options: ImageOptions) -> None:
    """Pack a small JPEG: what it calls is then compiled, or loaded from where it is kept."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "JPEG")
    with suppress(Exception):  # a worker will say what is wrong, where somebody hears it
        pack_image(file.getvalue(), options)
    # What is there by now stays. Workers that looked through it for garbage, again and again, would
    # spend 4% of their time on it, and copy the memory that they share.
    gc.freeze()
