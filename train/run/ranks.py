"""Joining the other ranks and taking leave of them, by accelerate."""

import dataclasses
import gc

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    GradientAccumulationPlugin,
    broadcast_object_list,
    parse_flag_from_env,
)

from shards.errors import DataError
from train.config import TrainConfig
from train.run.precision import check_precision, choose_precision
from train.run.variables import check_variables


def join_ranks() -> PartialState:
    """Join the other ranks as an Accelerator does, but before its precision is known."""
    return PartialState(cpu=_on_cpu() or parse_flag_from_env("ACCELERATE_USE_CPU"))


def _on_cpu() -> bool:
    return torch.backends.mps.is_available()  # float64 sums need a device that has float64


def settle_precision(config: TrainConfig, kept: TrainConfig | None = None) -> tuple[TrainConfig, str]:
    """Replace the precision auto by one, the same on all ranks; return why, empty where it was given.

    What is resumed keeps that of its configuration, `kept`. Otherwise the first rank chooses: the
    machines of one job may differ.
    """
    if config.precision != "auto":
        return config, ""
    if kept is not None and kept.precision != "auto":
        return dataclasses.replace(config, precision=kept.precision), "as before"
    state = join_ranks()
    chosen = [choose_precision(state.device)] if state.is_main_process else [None]
    (first,) = broadcast_object_list(chosen)
    return dataclasses.replace(config, precision=first.precision), f"auto: {first.why}"


def open_accelerator(config: TrainConfig) -> Accelerator:
    """Join the other ranks, once in a process.

    Raises DataError where the precision does not work here or the launcher asks for another run.
    """
    check_variables(config.precision, config.accumulate)
    try:
        accelerator = Accelerator(
            mixed_precision=config.precision,
            log_with="tensorboard" if config.tensorboard else None,
            project_dir=config.out,
            # Accumulating is the step's business: with more than 1 here `backward` divides again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            cpu=_on_cpu(),
        )
    except ValueError as error:
        raise DataError(f"precision {config.precision!r} does not work here ({error}); try bf16 or no") from error
    check_precision(config.precision, accelerator.device, _without_fp16(config))
    return accelerator


def _without_fp16(config: TrainConfig) -> str:
    return "resume where there is one, or give another --out" if config.resume else "try --precision auto"


def leave_ranks() -> None:
    """Take leave of the other ranks; no run can follow in this process.

    The parts of a run know each other in circles, and the process group with them: its threads would still be there
    when the interpreter ends, and abort the process where one of them wants it just then.
    """
    gc.collect()
    PartialState().destroy_process_group()
