"""What a loader shows of each image, and what it keeps decoded: two choices that check themselves."""

from dataclasses import dataclass
from typing import Literal, get_args

from shards.choices import (
    CROP_SHARE,
    CROP_SHARES,
    Augmentation,
    CacheName,
    check_augmentation,
    check_scale,
    whole_number,
)
from shards.decode.five_crop import NUM_CROPS
from shards.errors import DataError


@dataclass(frozen=True)
class View:
    """What is seen of each image, `size` pixels across.

    In training a random-resized crop, of a share of the area within `scale`, and half of them
    mirrored. In evaluation the centre, or with `five_crops` the centre and the four corners;
    `crop_share` is the share of the short side that is seen: 0.875, or 1 with `augment="pad"`,
    where not given.

    `augment="pad"`, for small images, takes all of an image that is `size` pixels wide and high (of
    others the centre, its short side resized to `size`): in training padded by `pad` reflected
    pixels, cropped and flipped, in evaluation as it is. `cutout` cuts a square of so many pixels
    out of each training image. `flip=False` mirrors none: digits and text mean something else then.

    Of a multispectral set images have C channels, red, green and blue first; `bands="rgb"` reads
    these only.
    """

    size: int = 224
    train: bool = True
    scale: tuple[float, float] = (0.08, 1.0)
    crop_share: float | None = None
    five_crops: bool = False
    bands: Literal["all", "rgb"] = "all"
    augment: Augmentation = "crop"
    pad: int = 4
    cutout: int = 0
    flip: bool = True

    def __post_init__(self) -> None:
        for name in ("size", "pad", "cutout"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.size < 1:
            raise DataError(f"size is {self.size}: give at least 1")
        check_augmentation(self.augment, self.size, self.pad, self.cutout)
        if not 0 < self.share_seen <= 1:
            raise DataError(
                f"crop_share is {self.crop_share}: give a share of the short side, 0 < share <= 1"
            )
        if self.five_crops and self.train:
            raise DataError("five_crops is for evaluation: give train=False, or leave it out")
        if self.bands not in ("all", "rgb"):
            raise DataError(f"bands is {self.bands!r}: give all or rgb")
        object.__setattr__(self, "scale", check_scale(self.scale))

    @property
    def share_seen(self) -> float:
        """Return the share of the short side that evaluation sees."""
        return CROP_SHARES[self.augment] if self.crop_share is None else self.crop_share

    @property
    def num_crops(self) -> int:
        """Count the views of one image."""
        return NUM_CROPS if self.five_crops else 1

    @property
    def is_fixed(self) -> bool:
        """Tell whether one view of an image, always the same, is all that is needed of it."""
        return not self.train or self.augment == "pad"


@dataclass(frozen=True)
class Cache:
    """Where decoded images are kept: nowhere, in memory or on the device.

    `kind="ram"` decodes each image once, at a short side of at most `short_side` pixels (0: the
    view's size / 0.875), and takes all later crops from memory, which the ranks of a machine share;
    evaluation and `augment="pad"` keep finished views. `kind="device"` keeps them on the loader's
    `device`, to crop from as squares of `short_side` pixels, and makes the batches there.
    """

    kind: CacheName = "none"
    short_side: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(CacheName):
            raise DataError(f"cache is {self.kind!r}: give none, ram or device")
        side = whole_number("cache_short_side", self.short_side)
        object.__setattr__(self, "short_side", side)
        if self.short_side < 0:
            raise DataError(
                f"cache_short_side is {self.short_side}: give pixels, or 0 for size / {CROP_SHARE}"
            )

    def side_for(self, view: View) -> int:
        """Return the short side that images are kept at. Raises DataError where the view leaves no
        choice of it.
        """
        if self.short_side and view.augment == "pad":
            raise DataError(
                f"cache_short_side is {self.short_side}: augment pad keeps images at their size; "
                f"leave it"
            )
        return self.short_side or round(view.size / CROP_SHARE)
