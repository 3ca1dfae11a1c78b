"""What every benchmark's note says beside its figures: the machine, the versions, medians with
their spread.
"""

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path


def cpu_name() -> str:
    """Name the processor as the system does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def num_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def vector_instructions() -> str:
    """Name the widest vector instructions that torch uses here, such as AVX512.

    `python -m tests.emulated v3 benchmarks/bench_metrics.py` measures as on a lesser CPU.
    """
    import torch  # the environments of peers import this module, and have none

    variable = "ATEN_CPU_CAPABILITY"
    asked = f" ({variable} is set)" if variable in os.environ else ""
    return f"{torch.backends.cpu.get_cpu_capability()}{asked}"


def circumstances(packages: Sequence[str], device: str = "") -> list[str]:
    """List the date, the machine and the versions, one line each."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = (
        f"; load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    )
    return [
        f"- date: {date.today().isoformat()}",
        f"- machine: {cpu_name()}, {num_cores()} cores{f', {device}' if device else ''}, "
        f"vector instructions: {vector_instructions()}; {platform.system()} {platform.release()}{load}",
        f"- versions: Python {platform.python_version()}, {versions}",
    ]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Write a median with its lowest and highest value: `412 (405..430)`."""
    low, middle, high = (
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low}..{high})"


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Divide round by round: what changes from round to round on a busy machine then cancels."""
    return [value / other for value, other in zip(values, others, strict=True)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a markdown table that is also readable on a terminal."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def tell(text: str, out: str) -> None:
    """Print a note, and write it where asked."""
    print(text)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text + "\n")
