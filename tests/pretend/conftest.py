"""Two pretences of a CUDA device, for paths that would otherwise never run on a machine without
one.

The *pretended runtime* (runtime/*.cpp, in front of libcudart) has real streams, events, memory and
copies under torch's own allocators; its kernels compute nothing. *Pretended tensors* (tensors.py)
say cuda:0 and compute on the CPU: real values. Neither says anything about NCCL, about what real
kernels compute, or about time.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from preprocess.sources.digits import write_digits
from preprocess.sources.voc import VOC
from tests.train.conftest import pack_here

ROOT = Path(__file__).parents[2]
RUNTIME = Path(__file__).with_name("runtime")
CUDA = "13"  # the runtime's functions are those that a torch built for CUDA 13 looks up
TIMEOUT_S = 500


def _compile(out: Path, names: list[str], includes: Path) -> None:
    sources = [str(RUNTIME / name) for name in names]
    flags = ["-O1", "-shared", "-fPIC", "-std=c++17", f"-I{includes}"]
    done = subprocess.run(
        ["g++", *flags, *sources, "-o", str(out), "-lpthread"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def runtime(tmp_path_factory) -> Path:
    """Compile the pretended runtime, once a session: the folder of libpretended.so and
    libcuda.so.1.
    """
    if sys.platform != "linux":
        pytest.skip("the pretended runtime is preloaded, which is Linux's way")
    if (torch.version.cuda or "").partition(".")[0] != CUDA:
        pytest.skip(
            f"this torch is built for CUDA {torch.version.cuda}, the pretended runtime for CUDA "
            f"{CUDA}"
        )
    triton = importlib.util.find_spec("triton")
    includes = (
        Path(triton.origin).parent / "backends/nvidia/include"
        if triton and triton.origin
        else Path()
    )
    if not (includes / "cuda_runtime_api.h").exists():
        pytest.skip("no CUDA headers: the wheel of triton brings them")
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the pretended runtime with")
    folder = tmp_path_factory.mktemp("pretended")
    names = sorted(path.name for path in RUNTIME.glob("*.cpp"))
    _compile(folder / "libpretended.so", [name for name in names if name != "driver.cpp"], includes)
    _compile(folder / "libcuda.so.1", ["driver.cpp"], includes)
    return folder


@pytest.fixture(scope="session")
def pretended(runtime) -> Callable[..., dict]:
    """Run `python -m tests.pretend.MODULE ARGS` on the pretended runtime: the JSON of its last
    line.

    `devices` is how many there are, `gb` the memory of each; `program` starts in place of python.
    """

    def call(
        *args: object, devices: int = 1, gb: float = 16, program: tuple[str, ...] = ()
    ) -> dict:
        settings = {
            "LD_PRELOAD": str(runtime / "libpretended.so"),
            "LD_LIBRARY_PATH": f"{runtime}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "PRETENDED_DEVICES": str(devices),
            "PRETENDED_GB": str(gb),
            "TORCH_CUDNN_V8_API_DISABLED": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        command = [*(program or (sys.executable,)), "-m", *map(str, args)]
        done = subprocess.run(
            command,
            env={**env, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """96 images to train on and 40 to validate."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "source", num_train=96, num_val=40, size=48)
    source = VOC(folder / "source")
    for split in ("train", "val"):
        pack_here(folder / "data", source.records(split), split, source.class_names)
    return folder / "data"
