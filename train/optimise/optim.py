"""The optimiser: one kernel for all parameters on CUDA, with a state that any device continues."""

from collections.abc import Sequence
from typing import Any

import timm.optim
import torch
from torch import Tensor, nn

from train.config import TrainConfig

IMPLEMENTATIONS = ("fused", "foreach")  # of the same sums: they belong to a device, not to a run


def build_optimizer(
    model: nn.Module, head: Sequence[nn.Parameter], config: TrainConfig
) -> torch.optim.Optimizer:
    """Make timm's optimiser; the classifier's parameters get `head_lr_factor` times the learning
    rate.

    On CUDA it is the fused one: few launches, and the verdict of fp16's loss scaler stays on the
    device, where the unfused ones wait for it in every step.
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
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if next(model.parameters()).device.type == "cuda":
        options["fused"] = True
    if config.optimizer == "sgd":
        options |= {"opt": "momentum", "momentum": config.momentum}
    else:
        options["opt"] = config.optimizer
    return timm.optim.create_optimizer_v2(described, **options)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a state that was saved on any device; how it is computed stays this device's own.

    A state names how it was computed, and torch would go on so: on a GPU unfused after a CPU, with
    Adam's step counts on the host; on a CPU fused, with other last digits. It is also in the memory
    format that the weights had there, which a fused optimiser refuses.
    """
    own = optimizer.param_groups
    groups = [
        {**saved, **{name: group[name] for name in IMPLEMENTATIONS if name in group}}
        for saved, group in zip(state["param_groups"], own, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for weight, of_weight in optimizer.state.items():
        for name, value in of_weight.items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                of_weight[name] = _in_format_of(weight.detach(), value)


def _in_format_of(weight: Tensor, value: Tensor) -> Tensor:
    if value.stride() == weight.stride():
        return value
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)
