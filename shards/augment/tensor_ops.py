"""The operations of shards.augment.pixel_ops on a device: the same bits, a batch at a time.

The host has drawn what each sample needs, so it sorts the samples by operation, and one copy brings
all that the device has to know. Each operation then sees its own samples alone, in a few launches.
The arithmetic is whole numbers of 32 bits, of 64 where sums need them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shards.augment.pixel_ops import GREY, plain_tables
from shards.augment.sample_changes import (
    AUTOCONTRAST,
    CONTRAST,
    EQUALIZE,
    HUE,
    LAST_PLAIN_TABLE,
    LAST_TABLE,
    MAP_BITS,
    NOTHING,
    ONE,
    SATURATION,
    SHARPNESS,
    UNIT,
    Changes,
)
from shards.augment.torch_ops import erased


@dataclass(frozen=True, eq=False)
class Round:
    """The samples of one round that change, sorted by operation.

    arrays  what the device is sent: samples int64 [S], amounts int64 [S], and the tables of the
            first samples, uint8 [P, 256]
    starts  by operation, where its samples start; the next one's start ends them
    is_all  whether the whole batch takes one operation, and stays in its order
    """

    arrays: dict[str, np.ndarray]
    starts: list[int]
    is_all: bool

    @classmethod
    def of(cls, codes: np.ndarray, amounts: np.ndarray) -> "Round":
        """Sort the codes and amounts of a batch, int64 [B] each."""
        order = np.argsort(codes, kind="stable")
        order = order[np.count_nonzero(codes == NOTHING) :]
        ordered = codes[order]
        starts = np.searchsorted(ordered, np.arange(HUE + 2)).tolist()
        tables = np.empty((starts[LAST_PLAIN_TABLE + 1], 256), np.uint8)
        plain_tables(tables, ordered, amounts[order])
        is_all = len(order) > 0 and bool((codes == ordered[0]).all())
        arrays = {"samples": order, "amounts": amounts[order], "tables": tables}
        return cls(arrays, starts, is_all)


class DeviceChanges:
    """What happens to a batch, in the form that a device works on: `arrays` are to be sent to it."""

    def __init__(self, changes: Changes, colour: np.ndarray, height: int, width: int) -> None:
        """`colour`, uint8 [C], is what erased boxes are filled with."""
        still = np.array([UNIT, 0, 0, 0, UNIT, 0])
        moved = np.flatnonzero((changes.maps != still).any(1))
        maps = changes.maps[moved].reshape(-1, 2, 3)
        maps[:, :, 2] += UNIT // 2  # what is cut to whole pixels is then rounded
        self._moves_all = 0 < len(moved) == len(changes.maps)
        self._rounds = [
            Round.of(*each) for each in zip(changes.codes, changes.amounts, strict=True)
        ]
        self.arrays = {
            "grey": np.array(GREY, np.int32),
            "moved": moved,
            "first": moved * (height * width),
            "maps": maps,
            "boxes": changes.boxes,
            "colour": colour,
        }
        for number, each in enumerate(self._rounds):
            self.arrays |= {f"{name} {number}": part for name, part in each.arrays.items()}

    def apply(self, images: Tensor, there: Mapping[str, Tensor]) -> Tensor:
        """Change images uint8 [B, H, W, C], contiguous and perhaps in place; `there` are the
        arrays on their device.
        """
        if len(there["moved"]):
            new = moved_pixels(images, there["first"], there["maps"])
            images = new if self._moves_all else images.index_copy_(0, there["moved"], new)
        for number, each in enumerate(self._rounds):
            if each.starts[-1]:
                sent = [there[f"{name} {number}"] for name in each.arrays]
                images = _in_round(images, each, sent, there["grey"])
        if len(there["boxes"]):
            images = erased(images, there["boxes"], there["colour"])
        return images


def _in_round(images: Tensor, each: Round, sent: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Give the samples of a round what they have drawn; `weights` are those of grey."""
    samples, amounts, plain = sent
    some = images if each.is_all else images.index_select(0, samples)
    starts = each.starts

    def of(code: int) -> tuple[Tensor, Tensor]:
        part = slice(starts[code], starts[code + 1])
        return some[part], amounts[part]

    tables: list[Tensor] = []
    if len(plain):
        tables.append(plain[:, None].expand(-1, images.shape[3], -1))
    if len(of(CONTRAST)[0]):
        tables.append(_contrast(*of(CONTRAST), weights))
    if len(of(AUTOCONTRAST)[0]):
        tables.append(_autocontrast(of(AUTOCONTRAST)[0]))
    if len(of(EQUALIZE)[0]):
        tables.append(_equalize(of(EQUALIZE)[0]))
    if tables:
        _look_up_all(some[: starts[LAST_TABLE + 1]], torch.cat(tables))
    for code, change in ((SATURATION, _saturate_all), (SHARPNESS, _sharpen_all), (HUE, _turn_all)):
        if len(of(code)[0]):
            change(*of(code), weights)
    return images if each.is_all else images.index_copy_(0, samples, some)


def moved_pixels(images: Tensor, first: Tensor, maps: Tensor) -> Tensor:
    """Map pixels: uint8 [S, H, W, C] of images uint8 [B, H, W, C], black where they come from
    outside; `first` is where each of the S images starts, in pixels, maps are [S, 2, 3].
    """
    _, height, width, channels = images.shape
    across = maps[:, :, :1] * torch.arange(width, device=images.device) + maps[:, :, 2:]
    down = maps[:, :, 1:2] * torch.arange(height, device=images.device)
    at = (across[:, :, None] + down[..., None]).bitwise_right_shift_(MAP_BITS)
    column, row = at.unbind(1)
    x = column.clamp(0, width - 1)
    y = row.clamp(0, height - 1)
    inside = (x == column) & (y == row)
    places = x.add_(y, alpha=width).add_(first[:, None, None])
    found = images.view(-1, channels).index_select(0, places.view(-1))
    return found.view(*places.shape, channels) * inside[..., None]


def _look_up_all(some: Tensor, tables: Tensor) -> None:
    """Replace the levels of images [S, H, W, C] by tables uint8 [S, C, 256]."""
    num, channels, _ = tables.shape
    starts = torch.arange(0, 256 * num * channels, 256, dtype=torch.int32, device=some.device)
    places = some.view(num, -1, channels) + starts.view(num, 1, channels)
    some.view(-1).copy_(tables.view(-1).index_select(0, places.view(-1)))


def _levels(like: Tensor) -> Tensor:
    return torch.arange(256, device=like.device)


def _grey_of(some: Tensor, weights: Tensor) -> Tensor:
    """Return int32 [S, H, W, 1]."""
    weighed = (some[..., :3] * weights).sum(3, keepdim=True, dtype=torch.int32)
    return weighed.div_(10000, rounding_mode="floor")


def _contrast(some: Tensor, excess: Tensor, weights: Tensor) -> Tensor:
    num = some.shape[1] * some.shape[2]
    if some.shape[3] < 3:
        sums = some.sum((1, 2))
    else:
        sums = _grey_of(some, weights).sum((1, 2)).expand(-1, 3)
        if some.shape[3] > 3:
            sums = torch.cat([sums, some[..., 3:].sum((1, 2))], dim=1)
    levels = _levels(some)
    apart = (levels * num - sums[..., None]) * excess[:, None, None]
    apart = apart.div_(ONE * num, rounding_mode="floor").add_(levels)
    return apart.clamp_(0, 255).to(torch.uint8)


def _autocontrast(some: Tensor) -> Tensor:
    low = some.amin((1, 2)).long()[..., None]
    spread = some.amax((1, 2)).long()[..., None] - low
    levels = _levels(some)
    stretched = ((levels - low) * 255).div_(spread.clamp(min=1), rounding_mode="floor")
    return torch.where(spread > 0, stretched.clamp_(0, 255), levels).to(torch.uint8)


def _equalize(some: Tensor) -> Tensor:
    num, height, width, channels = some.shape
    starts = torch.arange(0, 256 * num * channels, 256, device=some.device)
    places = (some.view(num, -1, channels) + starts.view(num, 1, channels)).view(-1)
    counts = torch.zeros(256 * num * channels, dtype=torch.int32, device=some.device)
    ones = torch.ones(1, dtype=torch.int32, device=some.device)
    counts = counts.scatter_add_(0, places, ones.expand(len(places))).view(num, channels, 256)
    until = counts.cumsum(2)
    # all pixels but those of the highest level
    below = torch.where(until < height * width, until, 0).amax(2, keepdim=True)
    step = below.div_(255, rounding_mode="floor")
    levels = (until - counts + step.div(2, rounding_mode="floor")).div_(
        step.clamp(min=1), rounding_mode="floor"
    )
    return torch.where(step > 0, levels.clamp_(max=255), _levels(some)).to(torch.uint8)


def _apart(values: Tensor, other: Tensor, excess: Tensor) -> Tensor:
    """Move int32 [S, H, W, C] away from others by factors of 1 + excess / 2^16; `values` change."""
    moved = (values - other).mul_(excess.int()[:, None, None, None]).bitwise_right_shift_(16)
    return values.add_(moved).clamp_(0, 255)


def _saturate_all(some: Tensor, excess: Tensor, weights: Tensor) -> None:
    if some.shape[3] >= 3:
        colours = some[..., :3]
        colours.copy_(_apart(colours.int(), _grey_of(some, weights), excess))


def _sharpen_all(some: Tensor, excess: Tensor, weights: Tensor) -> None:
    if min(some.shape[1:3]) < 3:
        return
    wide = some.int()
    lines = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    inner = wide[:, 1:-1, 1:-1]
    total = (lines[:, :, :-2] + lines[:, :, 1:-1]).add_(lines[:, :, 2:]).add_(inner, alpha=4)
    mean = total.add_(6).div_(13, rounding_mode="floor")
    some[:, 1:-1, 1:-1].copy_(_apart(inner, mean, excess))


def _turn_all(some: Tensor, turn: Tensor, weights: Tensor) -> None:
    if some.shape[3] < 3:
        return
    colours = some[..., :3].int()
    red, green, blue = colours.unbind(3)
    most = colours.amax(3)
    chroma = most - colours.amin(3)
    hue = torch.where(
        most == red,
        green - blue,
        torch.where(most == green, blue - red + 2 * chroma, (red - green).add_(chroma, alpha=4)),
    )
    turned = (hue << 16).add_(chroma * turn.int()[:, None, None])[..., None]
    first = torch.arange(5 << 16, -1, -2 << 16, dtype=torch.int32, device=some.device)
    chroma = chroma[..., None]
    place = (chroma * first).add_(turned).remainder_((chroma * (6 << 16)).clamp_(min=1))
    limit = chroma << 16
    less = torch.minimum(place, 4 * limit - place).clamp_(min=0)
    value = ((most << 16)[..., None] - torch.minimum(less, limit)) >> 4
    some[..., :3].copy_((value + (value * 257 >> 16)) >> 12)
