"""Which precision a machine computes in, and what to do with one that it only emulates."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import conv2d

from shards.errors import DataError

INSTRUCTIONS = {  # as /proc/cpuinfo and torch.cpu spell them
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX512_BF16",
    "svebf16": "SVE BF16",
    "sve_bf16": "SVE BF16",
    "bf16": "BF16",
    "arm_bf16": "BF16",
}
Precision = Literal["no", "bf16", "fp16"]

MEASUREMENTS = 3  # at most, of which one has to look like instructions
EMULATED = 2.5  # times as slow as fp32; measured: emulation 3 to 8, the slowest instructions 1.6


@dataclass(frozen=True)
class Chosen:
    """A precision, no for fp32, and why it is this one."""

    precision: Precision
    why: str


def choose_precision(device: torch.device) -> Chosen:
    """Choose bf16 where there are instructions for it, otherwise fp16 on a GPU and fp32 on a CPU."""
    if device.type == "cuda":
        bf16 = Chosen("bf16", "this GPU has it")
        return bf16 if _has_bf16(device) else Chosen("fp16", "this GPU has no bf16")
    if device.type != "cpu":
        return Chosen("no", f"fp32 on {device.type}")
    if instructions := bf16_instructions():
        return Chosen("bf16", f"this CPU has {instructions}")
    return Chosen("no", "fp32, as this CPU has no instructions for bf16")


def precision_of_run(precision: Literal["auto"] | Precision, device: torch.device) -> Chosen:
    """Take a run's precision where this machine has instructions for it, else the machine's own."""
    if precision == "no" or (precision == "fp16" and device.type != "cpu"):
        return Chosen(precision, "")
    if precision == "bf16" and _has_bf16(device):
        return Chosen(precision, "")
    chosen = choose_precision(device)
    if precision == "auto":
        return chosen
    return Chosen(chosen.precision, f"not the run's {precision}: {chosen.why}")


def check_precision(precision: str, device: torch.device, remedy: str) -> None:
    """Raise DataError for fp16 on a CPU: accelerate would compute in fp32 and not say so."""
    if precision == "fp16" and device.type == "cpu":
        raise DataError(f"precision 'fp16' does not work here (it needs a GPU); {remedy}")


def precision_line(chosen: Chosen, device: torch.device) -> str:
    """Say what is not as asked for, or slow; empty where there is nothing of the kind."""
    if chosen.why:
        return f"precision {chosen.precision} ({chosen.why})"
    return slow_line(chosen.precision, device)


def slow_line(precision: str, device: torch.device) -> str:
    """Warn, with a figure, of bf16 on a CPU that emulates it; empty otherwise."""
    if precision != "bf16" or device.type != "cpu" or bf16_instructions():
        return ""
    return (
        f"precision bf16 is emulated by this CPU: a small convolution takes {bf16_slowdown():.1f} "
        "times as long as in fp32, which is --precision no"
    )


def bf16_instructions() -> str:
    """Name what this CPU computes bf16 with; empty where it, or torch on it, has none.

    Flags of the processor are not enough: a limit such as ONEDNN_MAX_CPU_ISA, or a torch built
    without oneDNN, leaves them as they are. So torch is asked, and a small measurement must not
    look like emulation; where it does, two more may show that other processes were in its way.
    """
    named = [name for flag, name in INSTRUCTIONS.items() if flag in _flags()]
    if not named or not torch.backends.mkldnn.is_available():
        return ""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ""
    return named[0] if any(bf16_slowdown() < EMULATED for _ in range(MEASUREMENTS)) else ""


def bf16_slowdown() -> float:
    """Measure how many times as long as in fp32 a small convolution takes in bf16, with gradients.

    The best of three tries each, in turn: another process's work makes both slower. It takes 0.05
    to 0.5 s.
    """
    seconds = [math.inf, math.inf]
    kinds = [_convolution(torch.float32), _convolution(torch.bfloat16)]
    for _ in range(4):  # the first one prepares the kernels
        for number, convolve in enumerate(kinds):
            started = time.perf_counter()
            convolve()
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return seconds[1] / seconds[0]


def _convolution(dtype: torch.dtype) -> Callable[[], None]:
    """Prepare a convolution as networks make it: in fp32 in contiguous memory, else channels_last.

    Its numbers are ones: the random generators of a run stay as they are.
    """
    order = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    image = torch.ones(8, 64, 28, 28, dtype=dtype).contiguous(memory_format=order)
    weight = torch.ones(64, 64, 3, 3).contiguous(memory_format=order).requires_grad_()

    def convolve() -> None:
        conv2d(image, weight.to(dtype), padding=1).float().sum().backward()

    return convolve


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(bf16_instructions())


def _flags() -> set[str]:
    """List the processor's instruction sets, as Linux and torch name them."""
    info = Path("/proc/cpuinfo")
    flags = set[str]()
    for line in info.read_text().splitlines() if info.exists() else ():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, Arm
            flags |= set(values.split())
            break
    # newer releases of torch
    told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return flags | {name for name, value in told.items() if value is True}
