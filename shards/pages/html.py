"""What every page that Tarmac writes shares: one stylesheet, templates that escape, pictures inside
the file.
"""

import base64
import io
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import cv2
import jinja2
import numpy as np
from PIL import Image

LONG_SIDE = 128  # pixels; shown at about 100 CSS pixels
WEBP_QUALITY = 70  # about 3 KB for a photograph, two thirds of a JPEG that looks the same


def stylesheet() -> str:
    """Return page.css, which styles the elements and class names that it lists; goes into a
    <style>.
    """
    return files("shards.pages").joinpath("page.css").read_text(encoding="utf-8")


@cache
def environment(package: str) -> jinja2.Environment:
    """Return the templates of `package`. Autoescape is on: class names, keys and configs come from
    strangers.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def content_policy(script_hashes: Sequence[str] = ()) -> str:
    """Return the Content-Security-Policy of a page that fetches nothing and runs only the scripts
    of these hashes.
    """
    scripts = " ".join(f"'{value}'" for value in script_hashes)
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"{policy}; script-src {scripts}" if scripts else policy


def data_uri(image: np.ndarray, long_side: int = LONG_SIDE) -> str:
    """Shrink uint8 [H, W, 3] RGB to at most `long_side`, never enlarge it, and return a WebP data
    URI.
    """
    buffer = io.BytesIO()
    Image.fromarray(shrunk(image, long_side)).save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def shrunk(image: np.ndarray, long_side: int = LONG_SIDE) -> np.ndarray:
    """Shrink uint8 [H, W, 3] RGB to at most `long_side`; a smaller image is returned as it is."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a thumbnail must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
