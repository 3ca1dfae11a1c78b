"""An environment for each peer that is not among tarmac's own dependencies, made once and kept.

Each sees the packages of the running environment behind its own, through a .pth file: torch is not
installed anew, and where a peer demands another version of something, its own copy comes first.
"""

import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from shards.errors import DataError


@dataclass(frozen=True)
class Environment:
    """What a peer needs: pip's arguments, and system libraries by their pkg-config and Debian
    names.
    """

    install: tuple[str, ...]
    told: tuple[str, ...]  # packages whose versions the note tells
    libraries: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()


# FFCV is built from source, as PyPI has it, without a patch. --no-deps: its requirement
# opencv-python is met by opencv-python-headless, and the rest that it lists serves only its own
# benchmarks and GPU normalisation.
ENVIRONMENTS = {
    "ffcv": Environment(
        ("--no-deps", "ffcv==1.0.2"),
        ("ffcv", "numba", "numpy", "torch"),
        ("opencv4", "libturbojpeg"),
        ("g++", "python3-dev", "pkg-config", "libopencv-dev", "libturbojpeg0-dev"),
    ),
    "dali": Environment(("nvidia-dali-cuda130==2.4.0",), ("nvidia-dali-cuda130", "torch")),
    "streaming": Environment(
        ("mosaicml-streaming==0.13.0",),
        ("mosaicml-streaming", "pillow", "torchvision", "torch", "numpy"),
    ),
    "litdata": Environment(("litdata==0.2.76",), ("litdata", "torchvision", "torch", "numpy")),
    "datasets": Environment(("datasets==5.2.0", "aiohttp"), ("datasets", "torch", "numpy")),
}
NEEDED = "FFCV is built from source: apt-get install " + " ".join(ENVIRONMENTS["ffcv"].debian)


def missing_libraries(environment: Environment) -> list[str]:
    """Name what the system lacks to build an environment."""
    programs = ("g++", "pkg-config") if environment.libraries else ()
    missing = [program for program in programs if shutil.which(program) is None]
    if "pkg-config" in missing:
        return missing
    known = {
        name: subprocess.run(["pkg-config", "--exists", name]).returncode == 0
        for name in environment.libraries
    }
    return missing + [name for name, exists in known.items() if not exists]


def python_of(module: str, folder: Path) -> str:
    """Return the Python that runs a road: of its own environment under `folder`, made if need be,
    or the running one.

    Raises DataError where the system lacks what the environment is built with.
    """
    environment = ENVIRONMENTS.get(module)
    if environment is None:
        return sys.executable
    home, ready = folder / module, folder / module / "ready.txt"
    wanted = " ".join((sys.executable, *environment.install))
    python = str(home / "bin" / "python")
    if ready.exists() and ready.read_text() == wanted:
        return python
    missing = missing_libraries(environment)
    if missing:
        raise DataError(
            f"{module} cannot be built here without {', '.join(missing)}: apt-get install "
            f"{' '.join(environment.debian)}, or leave it out with --roads"
        )
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *environment.install])
    if done.returncode:
        raise DataError(
            f"pip could not install {' '.join(environment.install)} into {home}; its reason stands "
            f"above"
        )
    ready.write_text(wanted)
    return python


def versions(modules: Sequence[str], folder: Path) -> list[str]:
    """List the versions in each peer's environment, its own before those behind it, and of its
    system libraries.
    """
    lines = []
    for module in modules:
        environment = ENVIRONMENTS.get(module)
        if environment is None:
            continue
        base = {"base": str(folder / module), "platbase": str(folder / module)}
        paths = [sysconfig.get_path("purelib", vars=base), sysconfig.get_path("purelib")]
        found = {
            one.name: one.version for path in reversed(paths) for one in distributions(path=[path])
        }
        told = [f"{name} {found[name]}" for name in environment.told]
        for library in environment.libraries:
            answer = subprocess.run(
                ["pkg-config", "--modversion", library], stdout=subprocess.PIPE, text=True
            )
            told.append(f"{library} {answer.stdout.strip()} (the system's)")
        lines.append(f"- environment {module}: {', '.join(told)}")
    return lines


def system() -> str:
    """Name the distribution."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
