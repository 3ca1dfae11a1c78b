"""What `accelerate launch`, its config file and the environment ask for beside the configuration.

Accelerate reads these variables by itself. What would change a run without standing in its
config.yaml is refused here; what the libraries below torch read is shown with the run.
"""

import os
from collections.abc import Sequence

from shards.errors import DataError

TRUE = ("y", "yes", "t", "true", "on", "1")
FALSE = ("n", "no", "f", "false", "off", "0", "")
# Which change no number, or are seen in the first line of a run: of ACCELERATE_USE_CPU the device.
SWITCHES = ("ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY")
# Ways of training that the trainer does not have -> the flag of accelerate launch that asks for it.
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "--use_deepspeed",
    "ACCELERATE_USE_FSDP": "--use_fsdp",
    "ACCELERATE_USE_MEGATRON_LM": "--use_megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "--use_parallelism_config",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
}
# Of libraries below torch: the precision of products in fp32, and the order of their sums.
NUMERIC = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "CUBLAS_WORKSPACE_CONFIG",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "TIMM_FUSED_ATTN",
)
CONFIG_FILE = "or in the file that `accelerate config` wrote"


def check_variables(precision: str, accumulate: int | None = None) -> None:
    """Raise DataError for the first variable that asks for another run than the configuration.

    `accumulate` is None where nothing is trained.
    """
    for name in SWITCHES:
        if os.environ.get(name, "").lower() not in TRUE + FALSE:
            raise DataError(f"{name} is {os.environ[name]!r}: set it to true or false")
    for name, flag in UNSUPPORTED.items():
        if os.environ.get(name, "").lower() in TRUE:
            raise DataError(
                f"{name} is {os.environ[name]}: only data-parallel runs are supported, each rank "
                f"with the whole network; leave out {flag} of accelerate launch, {CONFIG_FILE}, or "
                f"unset the variable; less memory is needed with --precision bf16, "
                f"--grad-checkpointing or --accumulate"
            )
    _check_precision(precision)
    _check_steps(accumulate)
    if (backend := os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no")).lower() not in ("no", ""):
        raise DataError(
            f"ACCELERATE_DYNAMO_BACKEND is {backend}: it is --compile that compiles the "
            f"network; give `accelerate launch --dynamo_backend no`, {CONFIG_FILE}, or unset the "
            "variable"
        )
    if device := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        raise DataError(
            f"ACCELERATE_TORCH_DEVICE is {device}: choose GPUs with CUDA_VISIBLE_DEVICES, the CPU "
            "with ACCELERATE_USE_CPU=true, and unset this variable"
        )


def numeric_variables() -> dict[str, str]:
    """List the variables that are set and change numbers below torch, for the records of a run."""
    return {name: os.environ[name] for name in NUMERIC if os.environ.get(name)}


def shown(variables: dict[str, str]) -> Sequence[str]:
    """Spell variables as a shell does."""
    return [f"{name}={value}" for name, value in variables.items()]


def _check_precision(precision: str) -> None:
    """Refuse another precision; `no` is what accelerate launch says where nobody asked for one."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked not in ("no", "", precision):
        raise DataError(
            f"ACCELERATE_MIXED_PRECISION is {asked}, but precision is {precision}: give "
            f"--precision {asked if asked in ('bf16', 'fp16') else 'bf16 or fp16'}, or `accelerate "
            f"launch --mixed_precision no`, {CONFIG_FILE}"
        )


def _check_steps(accumulate: int | None) -> None:
    """Refuse another number of parts of a batch than `accumulate`: 1 where nobody asked for one."""
    asked = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS") or "1"
    if accumulate is not None and asked not in ("1", str(accumulate)):
        raise DataError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS is {asked}, but accumulate is {accumulate}: "
            f"unset it, and give --accumulate {asked if asked.isdigit() else 'N'} to compute each "
            "batch in parts"
        )
