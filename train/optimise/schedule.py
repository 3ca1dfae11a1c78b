"""The learning rate, a pure function of the step: it has no state to save."""

import math

import torch

from train.config import TrainConfig


def lr_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Tell the learning rate of a step (counted over the whole run) as a factor of its highest.

    Linear warm-up, then constant, steps, or half a cosine down to 0 at the last step (Loshchilov,
    Hutter 2017).
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        return config.step_factor ** (step // steps_per_epoch // config.step_epochs)
    rest = max(1, config.epochs * steps_per_epoch - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / rest)))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's own highest learning rate."""
    for group in optimizer.param_groups:
        group.setdefault("highest_lr", group["lr"])
        group["lr"] = group["highest_lr"] * factor
