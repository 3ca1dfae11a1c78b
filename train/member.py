"""A checkpoint becomes a network that predicts: what evaluation and prediction of single pictures share."""

import torch

from eval.ensemble import Member
from train.checkpoint import Checkpoint
from train.model import Classifier, build_network


def member(opened: Checkpoint, size: int, device: torch.device) -> Member:
    """Rebuild a checkpoint's network with its weights, averaged ones where it has them.

    `size` in pixels is that of the images to come; 0 is the size of training.
    """
    network = build_network(opened.config.model, len(opened.meta.class_names), opened.config.size)
    network.load_state_dict(opened.weights(averaged=opened.has_average))
    model = Classifier(network, opened.meta.mean, opened.meta.std).to(device).eval()
    return Member(str(opened.path), model, size or opened.config.size)
