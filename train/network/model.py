"""The model of a run: a network behind the normalisation of its pixels, new or from a checkpoint."""

import torch
from torch import nn

from shards.errors import DataError, count_of
from shards.index import DatasetIndex
from train.config import TrainConfig
from train.network.build import build_network
from train.network.filters import RGB
from train.network.freezing import keep_frozen_norms
from train.network.memory_format import put_in_format
from train.network.trial import check_smaller
from train.network.weights import LoadReport, load_weights
from train.run.checkpoint import Checkpoint

# mean and std per channel, in units of 1/255
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Classifier(nn.Module):
    """`network` behind normalisation: images uint8 or float [B, C, H, W], from 0 to 255 -> logits
    [B, K].

    Pixels stay uint8 until they are on the device. `mean` and `std` are in units of 1/255, as
    torchvision's are, and say what C is; of images with more channels the first C are seen. Images
    in any memory format get that of the weights where they become float, at no cost.
    """

    mean: torch.Tensor
    std: torch.Tensor
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @property
    def num_channels(self) -> int:
        return self.mean.shape[1]

    def train(self, mode: bool = True) -> "Classifier":
        """Change to training, or to evaluation; frozen batch norms stay in evaluation."""
        super().train(mode)
        keep_frozen_norms(self.network)
        return self

    def place(self, device: torch.device, memory_format: torch.memory_format) -> "Classifier":
        """Move to a device, in this memory format (train.network.memory_format)."""
        self.memory_format = memory_format
        put_in_format(self.to(device), memory_format)
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images[:, : self.num_channels]
        if not seen.is_contiguous(memory_format=self.memory_format):
            seen = seen.to(torch.float32, memory_format=self.memory_format)
        # uint8 minus float32 is float32: one pass over the pixels
        return self.network((seen - self.mean) / self.std)


def build_classifier(
    config: TrainConfig, index: DatasetIndex, empty: bool = False
) -> tuple[Classifier, LoadReport | None]:
    """Make the model of a run on the training split `index`, with the weights it starts from,
    unless `empty`.
    """
    channels = RGB if config.bands == "rgb" else index.num_channels
    if config.new_channels == "mean" and channels == RGB:
        raise DataError(
            f"new_channels is mean, but there is none: the network takes the RGB of {index.root} "
            f"alone"
        )
    network = _network(
        config, index.num_classes, channels, pretrained=config.pretrained and not empty
    )
    check_smaller(
        network, config.model, channels, config.sizes.all_of(config.epochs)[:-1], config.last_size
    )
    report = (
        load_weights(network, config.weights, config.new_channels)
        if config.weights and not empty
        else None
    )
    return Classifier(network, *_statistics(config, index, network, channels)), report


def rebuild(opened: Checkpoint) -> Classifier:
    """Make the model of a checkpoint from it alone, with the averaged weights where it has them."""
    meta = opened.meta
    network = _network(opened.config, len(meta.class_names), len(meta.mean), pretrained=False)
    opened.load_into(network, averaged=opened.has_average)
    return Classifier(network, meta.mean, meta.std)


def _network(config: TrainConfig, num_classes: int, channels: int, pretrained: bool) -> nn.Module:
    return build_network(
        config.model,
        num_classes,
        config.last_size,
        pretrained,
        config.drop_rate,
        channels=channels,
        fusion=config.fusion,
        new_channels=config.new_channels,
        activation=config.activation,
    )


def _statistics(
    config: TrainConfig, index: DatasetIndex, network: nn.Module, channels: int
) -> Statistics:
    """Choose mean and std per channel; a model knows them of RGB, those of further bands are the
    dataset's.
    """
    if config.normalize == "own":
        if len(config.mean) != channels:
            raise DataError(
                f"mean and std have {count_of(len(config.mean), 'number')}, the images of "
                f"{index.root} "
                f"{count_of(channels, 'channel')}: give as many, RGB first"
            )
        return config.mean, config.std
    mean = tuple(index.statistics["mean"][:channels])
    std = tuple(index.statistics["std"][:channels])
    if config.normalize == "dataset":
        return mean, std
    model_mean, model_std = model_statistics(network)
    return model_mean + mean[RGB:], model_std + std[RGB:]


def model_statistics(network: nn.Module) -> Statistics:
    """Tell the mean and std that a network was trained with, or is meant for."""
    described = getattr(network, "pretrained_cfg", None) or {}
    return tuple(described.get("mean", (0.485, 0.456, 0.406))), tuple(
        described.get("std", (0.229, 0.224, 0.225))
    )


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """List the parameters of the classifier; networks with a distillation token have two."""
    head = network.get_classifier()  # type: ignore[operator]
    heads = head if isinstance(head, tuple | list) else (head,)
    return [parameter for module in heads for parameter in module.parameters()]
