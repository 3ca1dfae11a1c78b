"""A first try of a network: refuse in one line what it cannot take, and name a size that it takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import timm
import torch
from torch import nn

from shards.errors import DataError, count_of, one_line
from train.by_epoch import STEP

USUAL_SIZES = (224, 256)
MAX_TRIES = 4  # of other sizes: each makes the network again

Make = Callable[[int, bool], nn.Module]  # size in pixels, pretrained -> network


@dataclass(frozen=True)
class Shape:
    """What a network is to take and to give: images [B, channels, size, size] -> logits [B,
    num_classes].
    """

    num_classes: int
    channels: int
    size: int


def made_and_tried(make: Make, name: str, shape: Shape, pretrained: bool) -> nn.Module:
    """Make a network and let it see two black images.

    Raises DataError for whatever fails: the networks of timm are by many authors, and raise
    anything.
    """
    try:
        network = make(shape.size, pretrained)
        logits = _logits(network, shape)
    except (DataError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):
            raise
        raise DataError(
            f"model {name} does not take images of {count_of(shape.size, 'pixel')} and "
            f"{shape.channels} "
            f"channels ({_reason(error)}): {_remedy(make, name, shape)}"
        ) from error
    if not _fits(logits, shape):
        raise DataError(
            f"model {name} gives {_described(logits)}, not one score per class: choose an image "
            f"classifier of timm's"
        )
    return network


def check_smaller(
    network: nn.Module, name: str, channels: int, sizes: Sequence[int], last_size: int
) -> None:
    """Let a network see black images of the sizes that a run begins with. Raises DataError for what
    it cannot take.
    """
    for size in sizes:
        try:
            _logits(network, Shape(0, channels, size))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise DataError(
                f"model {name} was made for images of {count_of(last_size, 'pixel')} and does not "
                "take those "
                f"of {count_of(size, 'pixel')} ({_reason(error)}): give --size {last_size}, or "
                "another --model"
            ) from error


@torch.no_grad()
def _logits(network: nn.Module, shape: Shape) -> object:
    network.eval()
    logits = network(torch.zeros(2, shape.channels, shape.size, shape.size))
    network.train()
    return logits


def _fits(logits: object, shape: Shape) -> bool:
    return torch.is_tensor(logits) and logits.shape == (2, shape.num_classes)


def _described(logits: object) -> str:
    return (
        f"scores of shape {list(logits.shape)} for 2 images"
        if torch.is_tensor(logits)
        else type(logits).__name__
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"[:250].removesuffix(": ")


def _remedy(make: Make, name: str, shape: Shape) -> str:
    """Name the nearest size that the network takes; looking for it costs time only where a run is
    refused.
    """
    for size in _other_sizes(name, shape.size):
        if _works(make, replace(shape, size=size)):
            return f"give --size {size}, or another --model"
    return "choose another --model" + (", or --bands rgb" if shape.channels != 3 else "")


def _works(make: Make, shape: Shape) -> bool:
    try:
        return _fits(_logits(make(shape.size, False), shape), shape)
    except Exception:
        return False


def _other_sizes(name: str, size: int) -> Iterator[int]:
    """List sizes that are likely to work, the nearest first: multiples of 32, and what the network
    is meant for.
    """
    described = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    meant = (described.input_size[-1],) if described is not None else ()
    below = size // STEP * STEP
    sizes = {below, below + STEP, *USUAL_SIZES, *meant} - {0, size}
    yield from sorted(sizes, key=lambda other: abs(other - size))[:MAX_TRIES]
