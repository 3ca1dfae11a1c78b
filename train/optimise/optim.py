"""The optimiser: one kernel for all parameters on CUDA, with a state that any device continues."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
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
    rate. Weights decay but for biases, norms and what the network names (timm's no_weight_decay).

    On CUDA it is the fused one: few launches, and the verdict of fp16's loss scaler stays on the
    device, where the unfused ones wait for it in every step.
    """
    head_ids = {id(parameter) for parameter in head}
    kept_ids = {id(parameter) for parameter in _kept_from_decay(model)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            in_head = id(parameter) in head_ids
            decays = parameter.ndim > 1
            # where the group of its kind was in runs of before: of another size now, never another
            groups.setdefault((in_head, decays), [])
            groups.setdefault((in_head, decays and id(parameter) not in kept_ids), []).append(
                parameter
            )
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr": config.lr * (config.head_lr_factor if in_head else 1.0),
        }
        for (in_head, decays), parameters in groups.items()
        if parameters
    ]
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if next(model.parameters()).device.type == "cuda":
        options["fused"] = True
    if config.optimizer == "sgd":
        options |= {"opt": "momentum", "momentum": config.momentum}
    else:
        options["opt"] = config.optimizer
    return timm.optim.create_optimizer_v2(described, **options)


def _kept_from_decay(model: nn.Module) -> Iterator[nn.Parameter]:
    """Find what networks say must not decay, such as a vision transformer's positions, by the
    names, or patterns of names, that timm's `no_weight_decay` returns.
    """
    for module in model.modules():
        if callable(named := getattr(module, "no_weight_decay", None)):
            patterns = named()
            for name, parameter in module.named_parameters():
                if any(fnmatchcase(name, pattern) for pattern in patterns):
                    yield parameter


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a state that was saved on any device; how it is computed stays this device's own.

    A state names how it was computed, and torch would go on so: on a GPU unfused after a CPU, with
    Adam's step counts on the host; on a CPU fused, with other last digits. It is also in the memory
    format that the weights had there, which a fused optimiser refuses.

    Raises ValueError where it is of other groups: of another network, or of a release that let more
    of its weights decay.
    """
    own = optimizer.param_groups
    there = [len(group["params"]) for group in state["param_groups"]]
    here = [len(group["params"]) for group in own]
    if there != here:
        raise ValueError(
            f"its groups have {there} parameters, those of this network {here} by this release's "
            "rule of which weights decay"
        )
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
