"""Augmentation in torch, for a whole batch at once, of images on a device.

Pad-and-crop and cutout give the pixels of shards.augment.pad_crop. Random-resized crops are two
matrix products, down and across, with the weights of Pillow's antialiased bilinear filter: whole
numbers of 1/1024, and grey levels of 1/8 between the two, so that every product and sum is exact in
float32 and in TF32. An image's crop is therefore the same whatever batch it is in.
"""

import torch

# 255 * 8 and 1024 have at most 11 binary digits, as many as TF32 keeps.
_WEIGHT = 1024
_LEVEL = 8
_FLOATS = 1 << 26  # of an intermediate result: 256 MB


def pad_crop(images: torch.Tensor, numbers: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Cut windows int64 [B, 3] out of images uint8 [N, size, size, C], numbers int64 [B]: uint8 [B,
    size, size, C].
    """
    size = images.shape[1]
    channels = images.shape[3]
    at = torch.arange(size, device=images.device)
    left, top, mirrored = windows.unsqueeze(2).unbind(1)
    columns = _reflected(left + torch.where(mirrored > 0, size - 1 - at, at), size)
    rows = _reflected(top + at, size)
    places = (numbers[:, None, None] * size + rows[:, :, None]) * size + columns[:, None, :]
    return images.view(-1, channels).index_select(0, places.view(-1)).view(-1, size, size, channels)


def cut_out_tensors(
    images: torch.Tensor, holes: torch.Tensor, cutout: int, colour: torch.Tensor
) -> torch.Tensor:
    """Fill squares of `cutout` pixels at int64 [B, 2] in images uint8 [B, size, size, C] with a
    colour uint8 [C].
    """
    return erased(images, torch.cat([holes, holes + cutout], dim=1), colour)


def erased(images: torch.Tensor, boxes: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Fill boxes (left, top, right, bottom) int64 [B, 4] in images uint8 [B, H, W, C] with a colour
    uint8 [C]; parts of a box may be outside.
    """
    _, height, width, _ = images.shape
    at = torch.arange(max(height, width), device=images.device)
    inside = (at >= boxes[:, :2, None]) & (at < boxes[:, 2:, None])
    inside = inside[:, 0, None, :width] & inside[:, 1, :height, None]
    return torch.where(inside[..., None], colour, images)


def resized_crops(
    images: torch.Tensor,
    numbers: torch.Tensor,
    boxes: torch.Tensor,
    mirrored: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """Cut boxes out of images and resize each to uint8 [B, size, size, C], mirrored where asked,
    antialiased.

    Images uint8 [N, side, side, C], numbers int64 [B], boxes (x, y, w, h) float64 [B, 4] in pixels
    of the images, mirrored bool [B].
    """
    at_once = max(1, _FLOATS // (images.shape[3] * max(size, images.shape[1]) ** 2))
    parts = zip(*(part.split(at_once) for part in (numbers, boxes, mirrored)), strict=True)
    return torch.cat([_resized(images[chosen], box, mirror, size) for chosen, box, mirror in parts])


def _resized(
    images: torch.Tensor, boxes: torch.Tensor, mirrored: torch.Tensor, size: int
) -> torch.Tensor:
    side = images.shape[1]
    x, y, width, height = boxes.unbind(1)
    across = _weights(x, width, mirrored, size, side).unsqueeze(1)
    down = _weights(y, height, torch.zeros_like(mirrored), size, side).unsqueeze(1)
    with torch.autocast(images.device.type, enabled=False):
        planes = images.permute(0, 3, 1, 2).float()
        planes = torch.floor(planes @ across.mT * (_LEVEL / _WEIGHT) + 0.5)
        planes = torch.floor(down @ planes / (_LEVEL * _WEIGHT) + 0.5)
    return planes.to(torch.uint8).permute(0, 2, 3, 1)


def _weights(
    start: torch.Tensor, extent: torch.Tensor, mirrored: torch.Tensor, size: int, side: int
) -> torch.Tensor:
    """Weigh the pixels of a line of `side` for each of `size` pixels of the result: float32 [B,
    size, side].

    Pillow's bilinear filter, a triangle as wide as the shrink factor, over the pixels of the box
    alone; whole numbers that sum up to 1024.
    """
    at = torch.arange(size, device=start.device, dtype=torch.float64)
    pixels = torch.arange(side, device=start.device, dtype=torch.float64)
    start = start[:, None, None]
    extent = extent[:, None, None]
    at = torch.where(mirrored[:, None], size - 1 - at, at)[:, :, None]
    shrink = extent / size
    centre = start + (at + 0.5) * shrink
    weights = (1 - (pixels + 0.5 - centre).abs() / shrink.clamp(min=1)).clamp(min=0)
    inside = (pixels + 1 > start) & (pixels < start + extent)
    # A box thinner than a pixel may have no pixel's centre near enough: it takes the pixel that
    # contains it.
    weights = torch.where(inside, weights, 0).clamp(min=0) + 1e-12 * (
        (pixels <= centre) & (centre < pixels + 1)
    )
    whole = torch.round(_WEIGHT * weights / weights.sum(2, keepdim=True))
    largest = whole.argmax(2, keepdim=True)
    return whole.scatter_add(2, largest, _WEIGHT - whole.sum(2, keepdim=True)).float()


def _reflected(at: torch.Tensor, size: int) -> torch.Tensor:
    at = at.abs()
    return torch.where(at >= size, 2 * (size - 1) - at, at)
