"""A timm network with a head for this dataset and the pixels' normalisation in front."""

import difflib
from typing import Any

import timm
import torch
from torch import nn

from shards.errors import DataError, one_line
from train.config import TrainConfig
from train.weights import LoadReport, load_weights


class Classifier(nn.Module):
    """`network` behind normalisation: images uint8 [B, 3, H, W] -> logits [B, K].

    Pixels stay uint8 until they are on the device. `mean` and `std` are in units of 1/255, as torchvision's are.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network((images.float() - self.mean) / self.std)


def build_network(
    name: str, num_classes: int, size: int, pretrained: bool = False, drop_rate: float = 0.0
) -> nn.Module:
    """Make a timm network with a fresh head of `num_classes` for images of `size` pixels, in channels_last memory."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names them all"
        raise DataError(f"model {name!r} is not one of timm's: {hint}")
    try:
        network = _create(name, size, pretrained=pretrained, num_classes=num_classes, drop_rate=drop_rate)
    except Exception as error:
        if not pretrained:
            raise DataError(f"model {name} cannot be made for {size} pixels ({one_line(error)[:200]})") from error
        raise DataError(
            f"no pretrained weights for {name} ({one_line(error)[:300]}): give a local file with --weights, "
            "or run once where the hub can be reached"
        ) from error
    _check_shapes(network, name, num_classes, size)
    return network.to(memory_format=torch.channels_last)


def _create(name: str, size: int, **options: Any) -> nn.Module:
    try:
        return timm.create_model(name, img_size=size, **options)  # transformers: position embeddings of this size
    except TypeError:  # convolutional networks take any size and know no such option
        return timm.create_model(name, **options)


@torch.no_grad()
def _check_shapes(network: nn.Module, name: str, num_classes: int, size: int) -> None:
    """Refuse at the door what would fail in the middle of the first batch."""
    network.eval()
    try:
        logits = network(torch.zeros(2, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise DataError(
            f"model {name} does not take images of {size} pixels ({one_line(error)[:200]}): change --size"
        ) from error
    finally:
        network.train()
    if not torch.is_tensor(logits) or logits.shape != (2, num_classes):
        raise DataError(f"model {name} does not give one score per class; choose an image classifier of timm's")


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """List the parameters of the classifier; networks with a distillation token have two."""
    head = network.get_classifier()  # type: ignore[operator]
    heads = head if isinstance(head, tuple | list) else (head,)
    return [parameter for module in heads for parameter in module.parameters()]


def model_statistics(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Tell the mean and std that a timm network was trained with, in units of 1/255."""
    described = getattr(network, "pretrained_cfg", None) or {}
    return tuple(described.get("mean", (0.485, 0.456, 0.406))), tuple(described.get("std", (0.229, 0.224, 0.225)))


def build_classifier(
    config: TrainConfig, num_classes: int, statistics: dict[str, Any] | None
) -> tuple[Classifier, LoadReport | None]:
    """Make the model of a run, with the weights it starts from; `statistics` of the pixels replace timm's own."""
    network = build_network(config.model, num_classes, config.size, config.pretrained, config.drop_rate)
    report = load_weights(network, config.weights) if config.weights else None
    if statistics is not None:
        return Classifier(network, tuple(statistics["mean"]), tuple(statistics["std"])), report
    return Classifier(network, *model_statistics(network)), report
