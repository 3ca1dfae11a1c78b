"""Filters of a network of RGB images for images of more, or other, channels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from train.config import NewChannels

RGB = 3


def fit_filters(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], keep_rgb: bool, new: NewChannels
) -> tuple[dict[str, Tensor], list[str]]:
    """Make the first convolution of `given`, a state dict of an RGB network, fit the network of
    state dict `own`.

    That layer is found by its shape: the one that has 3 input channels in `given` and another
    number in `own`. With `keep_rgb` its filters stay as they are, bit for bit, and filters for the
    channels behind them are added; otherwise all filters are new. (timm's `in_chans` repeats and
    scales the RGB filters instead.) Where both have 3 channels nothing is done.

    Args:
        given, own: tensors by name.
        keep_rgb: the first three channels of `own` are red, green and blue.
        new: kaiming draws new filters (He et al. 2015, fan out), mean takes the average of the RGB
            filters; scaled by 3 / channels where these are the only ones, so that a grey picture is
            answered as before.

    Returns:
        `given` with the filters exchanged, and their names.
    """
    fitted = dict(given)
    names = []
    for name, value in given.items():
        target = own.get(name)
        if target is None or not _is_input_layer(value.shape, target.shape):
            continue
        num_new = target.shape[1] - (RGB if keep_rgb else 0)
        if num_new < 1:
            continue
        extra = torch.empty(value.shape[0], num_new, *value.shape[2:], dtype=value.dtype)
        if new == "kaiming":
            torch.nn.init.kaiming_normal_(extra, mode="fan_out", nonlinearity="relu")
        else:
            extra[:] = value.mean(1, keepdim=True) * (1 if keep_rgb else RGB / num_new)
        fitted[name] = torch.cat([value, extra], dim=1) if keep_rgb else extra
        names.append(name)
    return fitted, names


def _is_input_layer(given: torch.Size, own: torch.Size) -> bool:
    return (
        len(given) == len(own) == 4
        and given[1] == RGB != own[1]
        and given[0] == own[0]
        and given[2:] == own[2:]
    )
