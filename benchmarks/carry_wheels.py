"""Bring packages to a machine without a network, such as one with a GPU: as wheels in a folder.

    python benchmarks/carry_wheels.py wheels --python 3.12      # here: download them
    python benchmarks/carry_wheels.py wheels --install          # there: install those it lacks

`gpu_all.py --wheels wheels` installs them before it begins. Versions are those of this environment,
so what was rehearsed here runs there. What is there already stays as it is: torch above all. Needs
nothing but Python and pip.
"""

import argparse
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

# What Tarmac needs and a machine that is made for torch lacks.
LACKING = ("simplejpeg", "jsonargparse", "docstring-parser", "typeshed-client", "webdataset")
# What such a machine has.
PRESENT = {"numpy", "pyyaml", "typing-extensions"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MOST_BYTES = 8_000_000


def spelled(name: str) -> str:
    """Spell a package's name as registries do."""
    return name.lower().replace("_", "-").replace(".", "-")


def with_what_they_need(names: tuple[str, ...]) -> list[str]:
    """Add what packages require, that in turn, and leave out what is there."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = spelled(waiting.pop(0))
        if name in PRESENT or name in found:
            continue
        found.append(name)
        needed = [each for each in requires(name) or [] if ";" not in each]
        waiting += [each.split("[")[0].rstrip("()<>=!~., 0123456789") for each in needed]
    return found


def download(folder: Path, python: str) -> list[Path]:
    """Download a wheel of each package for Linux on x86-64 and a version of Python."""
    pins = [f"{name}=={version(name)}" for name in with_what_they_need(LACKING)]
    target = [f"--python-version={python}", *(f"--platform={each}" for each in PLATFORMS)]
    command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}"]
    pip(*command, *target, *pins)
    return sorted(folder.glob("*.whl"))


def install(folder: Path) -> list[str]:
    """Install the wheels of packages that are not there, without a network; name them."""
    lacking = [path for path in sorted(folder.glob("*.whl")) if not is_there(name_of(path))]
    if lacking:
        pip("install", "--quiet", "--no-index", "--no-deps", *map(str, lacking))
    return [name_of(path) for path in lacking]


def name_of(wheel: Path) -> str:
    """Name the package of a wheel."""
    return spelled(wheel.name.split("-")[0])


def is_there(name: str) -> bool:
    """Tell whether a package is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def pip(*args: str) -> None:
    """Run pip for this Python. Leaves with its status where it fails."""
    status = subprocess.run([sys.executable, "-m", "pip", *args]).returncode
    if status:
        print(f"error: pip {args[0]} ended with status {status}", file=sys.stderr)
        raise SystemExit(status)


def main() -> int:
    """Download or install; status 2 where there is nothing, or too much to carry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the wheels are")
    parser.add_argument("--python", default="3.12", help="version of the machine to come")
    parser.add_argument("--install", action="store_true", help="install them, without a network")
    args = parser.parse_args()
    wheels = (
        sorted(args.folder.glob("*.whl")) if args.install else download(args.folder, args.python)
    )
    if not wheels:
        print(f"error: {args.folder}: no wheels here; download them first", file=sys.stderr)
        return 2
    if args.install:
        print(f"installed: {', '.join(install(args.folder)) or 'nothing, all are there'}")
        return 0
    num_bytes = sum(path.stat().st_size for path in wheels)
    print(f"{args.folder}: {len(wheels)} wheels, {num_bytes / 1e6:.1f} MB")
    if num_bytes > MOST_BYTES:
        print(f"error: more than {MOST_BYTES / 1e6:.0f} MB to carry", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
