"""What a reader of shards can be asked for: the values of its options and their bounds.

Command lines import this module to show their help, so it imports neither torch nor numba, which
take seconds.
"""

import operator
from typing import Any, Literal

from shards.errors import DataError
from shards.remote.address import Address, is_url

CacheName = Literal["none", "ram", "device"]
Augmentation = Literal["crop", "pad"]
OnBadSample = Literal["stop", "skip"]
OrderName = Literal["auto", "global", "near"]
TestTimeName = Literal["none", "flip", "fivecrop", "tencrop", "multiscale", "dihedral"]
# evaluation: the short side becomes size / 0.875, as timm and the ImageNet literature do
CROP_SHARE = 0.875
# What evaluation sees of the short side. A small image is seen whole: at 0.875 one of 32 pixels
# would be enlarged to 37, and the middle 32 cut out.
CROP_SHARES: dict[Augmentation, float] = {"crop": CROP_SHARE, "pad": 1.0}

CACHE_DIR = (
    "of data by address, such as s3://bucket/voc: the folder that keeps what was fetched, for all "
    "processes of this machine; ~/.cache/tarmac where not given"
)
ORDER = (
    "how training samples are shuffled. global: from anywhere in the split; near: from a few "
    "shards at a time, on a machine always the same. auto: near for data that come over a "
    "network, global for a folder; config.yaml keeps what was chosen"
)
NUM_THREADS = "loader threads per rank; 0 is one per core, shared out among the ranks of a machine"
CACHE_GB = (
    "of data by address: how much that folder may hold, in 10^9 bytes; 0 is what the disk has "
    "room for"
)

COLOR_JITTER = (
    "change brightness, contrast and saturation of each training image by factors from 1 - x to "
    "1 + x, such as 0.4; 0 does not"
)
HUE_JITTER = "turn the hues of each training image by up to this share of a circle, such as 0.1"
TRIVIAL_AUGMENT = (
    "do one of 14 operations of a random strength to each training image, as torchvision's "
    "TrivialAugmentWide: shift, shear, rotate, brightness, contrast, posterize and others"
)
DIHEDRAL = (
    "show each training image turned by a random number of quarter turns, or a mirror image of "
    "that: for satellite and microscope images"
)
ERASING = (
    "share of the training images that lose a rectangle, as by torchvision's RandomErasing, such "
    "as 0.25"
)


def check_location(data: str, cache_dir: str, cache_gb: float) -> None:
    """Refuse an address that holds a secret or is none, and a cache of what needs none."""
    if is_url(data):
        Address.parse(data)
    elif data and (cache_dir or cache_gb):
        raise DataError(
            f"cache_dir and cache_gb are for data by address, but data is the folder {data}: leave "
            f"them out"
        )


def check_scale(scale: tuple[float, float]) -> tuple[float, float]:
    """Refuse a crop scale that is no range of shares of the area."""
    try:
        low, high = (float(share) for share in scale)
    except (TypeError, ValueError):
        low = high = 0.0
    if not 0 < low <= high <= 1:
        raise DataError(
            f"crop_scale is {scale}: give two shares of the area, 0 < low <= high <= 1, such as "
            f"[0.08,1.0]"
        )
    return low, high


def whole_number(name: str, value: Any) -> int:
    """Return a whole number, numpy's or torch's too, as Python's own. Raises DataError for anything
    else: 64.0 and "64" would fail much later, or not at all.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise DataError(f"{name} is {value!r:.100}: give a whole number")


def check_augmentation(augment: str, size: int, pad: int, cutout: int) -> None:
    """Refuse what cannot be done with images of `size` pixels."""
    if augment not in ("crop", "pad"):
        raise DataError(f"augment is {augment!r}: give crop or pad")
    if not 0 <= pad < size and augment == "pad":
        raise DataError(
            f"pad is {pad}: an image of {size} pixels can be reflected by 0 to {size - 1}"
        )
    if not 0 <= cutout < 2 * size:
        raise DataError(
            f"cutout is {cutout}: give the side of a square in pixels, 0 for none, below {2 * size}"
        )
