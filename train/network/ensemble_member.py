"""A checkpoint becomes a network that predicts: what evaluation and prediction of single pictures
share.
"""

import torch

from eval.prediction.ensemble import EnsembleMember
from shards.choices import CROP_SHARES
from train.network.memory_format import choose_format
from train.network.model import rebuild
from train.run.checkpoint import Checkpoint


def member(opened: Checkpoint, size: int, device: torch.device, precision: str) -> EnsembleMember:
    """Rebuild a checkpoint's network with its weights, averaged ones where it has them.

    `size` in pixels is that of the images to come; 0 is the size of training. `precision` is what
    it will compute in.
    """
    memory_format = choose_format(opened.config.memory_format, device, precision)
    model = rebuild(opened).place(device, memory_format).eval()
    share = CROP_SHARES[opened.config.augment]
    return EnsembleMember(
        str(opened.path), model, size or opened.config.last_size, model.num_channels, share
    )
