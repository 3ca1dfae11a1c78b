"""Variables with which this machine's libraries compute as on an x86-64 CPU of a lower level.

Each library has a variable of its own. What cannot be asked to do without its instructions is
Python itself, and libraries that choose nothing at run time: they are built for the lowest level.
"""

import platform
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__

# NumPy refuses names that it does not know, and those that its build takes for granted.
_NEWER = (
    "X86_V4",
    "AVX512F",
    "AVX512CD",
    "AVX512_SKX",
    "AVX512_CLX",
    "AVX512_CNL",
    "AVX512_ICL",
    "AVX512_SPR",
)
_V3 = ("X86_V3", "AVX", "F16C", "FMA3", "AVX2")
_OPENCV_NEWER = "AVX512-SKX,AVX512-CNL,AVX512-CLX,AVX512-ICL"

LEVELS: dict[str, dict[str, str]] = {
    "v3": {  # AVX2 and FMA: Intel since Haswell (2013), AMD since Excavator (2015)
        "NUMBA_CPU_NAME": "x86-64-v3",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "OPENCV_CPU_DISABLE": _OPENCV_NEWER,
    },
    "v2": {  # SSE 4.2, no AVX and no FMA: the least that NumPy's wheels take
        "NUMBA_CPU_NAME": "x86-64-v2",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENCV_CPU_DISABLE": f"AVX,FP16,FMA3,AVX2,{_OPENCV_NEWER}",
        "JSIMD_FORCESSE2": "1",  # libjpeg-turbo
    },
}


def variables(level: str) -> dict[str, str]:
    """Return the environment variables of a level, with the names that this NumPy takes."""
    unwanted = _NEWER if level == "v3" else (*_V3, *_NEWER)
    known = [name for name in unwanted if name in __cpu_dispatch__]
    return {**LEVELS[level], "NUMBA_CPU_FEATURES": "", "NPY_DISABLE_CPU_FEATURES": " ".join(known)}


def can_run(level: str) -> bool:
    """Tell whether this CPU has all instructions of a level."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if level == "v2":
        return True
    flags = Path("/proc/cpuinfo")
    return flags.exists() and {"avx2", "fma", "bmi2"} <= set(flags.read_text().split())
