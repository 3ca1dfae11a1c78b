"""Joining the other ranks and taking leave of them, by accelerate."""

import gc

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import GradientAccumulationPlugin

from eval.variables import check_variables
from shards.errors import DataError
from train.config import TrainConfig


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
            cpu=torch.backends.mps.is_available(),  # float64 sums need a device that has float64
        )
    except ValueError as error:
        raise DataError(f"precision {config.precision!r} does not work here ({error}); try bf16 or no") from error
    if config.precision == "fp16" and accelerator.device.type == "cpu":  # accelerate would compute in fp32 unsaid
        raise DataError("precision 'fp16' does not work here (it needs a GPU); try bf16 or no")
    return accelerator


def leave_ranks() -> None:
    """Take leave of the other ranks; no run can follow in this process.

    The parts of a run know each other in circles, and the process group with them: its threads would still be there
    when the interpreter ends, and abort the process where one of them wants it just then.
    """
    gc.collect()
    PartialState().destroy_process_group()
