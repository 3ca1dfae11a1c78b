"""Optimiser and learning rate. The schedule is a pure function of the step, so it has no state to
save.
"""

import math
from collections.abc import Sequence
from typing import Any

import timm.optim
import torch
from torch import nn

from train.config import TrainConfig


def build_optimizer(
    model: nn.Module, head: Sequence[nn.Parameter], config: TrainConfig
) -> torch.optim.Optimizer:
    """Make timm's optimiser; the classifier's parameters get `head_lr_factor` times the learning
    rate.
    """
    head_ids = {id(parameter) for parameter in head}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            in_head = id(parameter) in head_ids
            decays = parameter.ndim > 1
            groups.setdefault((in_head, decays), []).append(parameter)
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr": config.lr * (config.head_lr_factor if in_head else 1.0),
        }
        for (in_head, decays), parameters in groups.items()
    ]
    if config.optimizer == "adamw":
        return timm.optim.create_optimizer_v2(
            described, opt="adamw", lr=config.lr, weight_decay=config.weight_decay
        )
    return timm.optim.create_optimizer_v2(
        described,
        opt="momentum",
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )


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
