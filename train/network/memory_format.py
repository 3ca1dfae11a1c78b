"""The memory format of a network. It decides speed, and on some CPUs whether torch crashes."""

import itertools

import torch
from torch import nn

from train.config import MemoryFormat

_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def choose_format(asked: MemoryFormat, device: torch.device, precision: str) -> torch.memory_format:
    """Choose the memory format of a network on `device` that computes in `precision` (no is fp32).

    channels_last is what fast convolutions of GPUs and of bf16 instructions take. In fp32 on a CPU
    neither is faster everywhere (a quarter in either direction was measured), and where there is no
    AVX-512 torch 2.14 ends by SIGSEGV in the backward pass of a strided 1x1 convolution of few
    channels in channels_last.
    """
    if asked != "auto":
        return _FORMATS[asked]
    suits = device.type != "cpu" or precision == "bf16"
    return torch.channels_last if suits else torch.contiguous_format


def put_in_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Change the memory format of a network's images, filters and all else that has four
    dimensions. Torch's own `to` raises where a tensor has five, such as a filter over three
    dimensions.
    """
    for tensor in itertools.chain(network.parameters(), network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=memory_format)
