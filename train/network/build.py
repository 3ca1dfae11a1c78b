"""Networks by name: timm's, or a small one of our own, for images of any number of channels."""

import contextlib
import difflib
from functools import partial
from typing import Any

import timm
from torch import nn

from shards.errors import DataError, count_of
from train.config import Activation, Fusion, NewChannels
from train.network.cnn import CNN, WIDTHS
from train.network.filters import RGB, fit_filters
from train.network.hub import hub_says_once, reason
from train.network.trial import Shape, made_and_tried
from train.network.two_branch import Joined


def build_network(
    name: str,
    num_classes: int,
    size: int,
    pretrained: bool = False,
    drop_rate: float = 0.0,
    *,
    channels: int = RGB,
    fusion: Fusion = "early",
    new_channels: NewChannels = "kaiming",
    activation: Activation = "relu",
) -> nn.Module:
    """Make a network with a fresh head of `num_classes` for images of `size` pixels, and try it on
    two black ones.

    Args:
        name: a timm model, or a key of train.network.cnn.WIDTHS.
        pretrained: start from timm's weights; filters of further bands are made as `new_channels`
            says.
        channels: of the images; RGB comes first.
        fusion: early is one network of all channels; late is two of the same name, one for RGB, one
            for the rest.
        activation: of the small network; timm's have their own.
    """
    _check_name(name)
    if name in WIDTHS and pretrained:
        raise DataError(f"pretrained is set, but there are no weights for {name}: leave it out")
    if name not in WIDTHS and activation != "relu":
        raise DataError(
            f"activation is {activation}, but {name} has its own: leave it out, or choose model cnn"
        )
    if fusion == "late" and channels <= RGB:
        raise DataError(
            f"fusion is late, but the images have {count_of(channels, 'channel')}, and it joins "
            "RGB with "
            "further bands: give --fusion early, or data of more bands"
        )

    def make(size: int, pretrained: bool) -> nn.Module:
        of_kind = partial(
            _make,
            name,
            size,
            pretrained=pretrained,
            new_channels=new_channels,
            activation=activation,
        )
        if fusion == "early":
            return of_kind(channels=channels, num_classes=num_classes, drop_rate=drop_rate)
        rgb = of_kind(channels=RGB)
        extra = of_kind(channels=channels - RGB, keep_rgb=False)
        return Joined(rgb, extra, channels - RGB, num_classes, size, drop_rate)

    return made_and_tried(make, name, Shape(num_classes, channels, size), pretrained)


def _make(
    name: str,
    size: int,
    *,
    channels: int,
    pretrained: bool,
    new_channels: NewChannels,
    activation: Activation,
    keep_rgb: bool = True,
    num_classes: int = 0,
    drop_rate: float = 0.0,
) -> nn.Module:
    """Make one network; `num_classes` 0 gives its pooled features. Three further bands are taken as
    RGB.
    """
    if name in WIDTHS:
        return CNN(name, num_classes, size, channels, drop_rate, activation)
    create = partial(_create, name, size, num_classes=num_classes, drop_rate=drop_rate)
    if not pretrained or channels == RGB:
        return create(pretrained=pretrained, in_chans=channels)
    network = create(in_chans=channels)
    weights = create(pretrained=True).state_dict()
    weights, found = fit_filters(weights, network.state_dict(), keep_rgb, new_channels)
    if not found:
        raise DataError(
            f"model {name} has no first convolution that takes pixels as they are, so its "
            "pretrained weights fit RGB alone: give --bands rgb, or choose another model"
        )
    network.load_state_dict(weights)
    return network


def _check_name(name: str) -> None:
    if name not in WIDTHS and not timm.is_model(name):
        near = difflib.get_close_matches(name, [*timm.list_models(), *WIDTHS], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names them all"
        raise DataError(f"model {name!r} is not one of timm's, nor {' or '.join(WIDTHS)}: {hint}")


def _create(name: str, size: int, pretrained: bool = False, **options: Any) -> nn.Module:
    try:
        with hub_says_once():
            return _of_size(name, size, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        _of_size(name, size, **options)  # raises where it is the size that is at fault
        raise DataError(
            f"no pretrained weights for {name} ({reason(error)}): give a local file with "
            "--no-pretrained --weights FILE, or run once where the hub can be reached"
        ) from error


def _of_size(name: str, size: int, drop_rate: float, **options: Any) -> nn.Module:
    """Make a network of timm with those of `img_size` and `drop_rate` that it knows.

    Transformers need the size for their position embeddings; convolutional networks take any size,
    and no such option.
    """
    dropout: dict[str, Any] = {"drop_rate": drop_rate}
    ways = [{"img_size": size, **dropout}, dropout]
    if not drop_rate:
        ways += [{"img_size": size}, {}]
    for way in ways[:-1]:
        with contextlib.suppress(TypeError):
            return timm.create_model(name, **way, **options)
    return timm.create_model(name, **ways[-1], **options)
