"""The numeric core on an emulated Arm machine, compared with this one.

    python -m tests.emulated.arm [FOLDER]

Debian's qemu-user runs Debian's Python for arm64, with the aarch64 wheels of the registry, in
FOLDER (.arm), which is made once. Nothing is installed on this machine and nothing needs root.
numba compiles in the emulated process, so a run takes minutes. There is no torch in it: metrics
are left out.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
QEMU = "qemu-aarch64-static"
PACKAGES = ("python3", "libgomp1", "libstdc++6")
WHEELS = (
    *("numpy", "numba", "opencv-python-headless", "pillow", "simplejpeg", "tifffile"),
    *("pyyaml", "jsonargparse", "tqdm", "psutil", "pytest"),
)
# a directory of its own for each thing that apt keeps, so that the machine's packages stay as they are
APT = """APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State "{}/apt/state";
Dir::State::status "{}/apt/status";
Dir::Cache "{}/apt/cache";
APT::Sandbox::User "";
APT::Install-Recommends "false";
"""


def python_of(folder: Path) -> Path | None:
    """Find the emulated machine's Python."""
    found = sorted((folder / "root/usr/bin").glob("python3.[0-9]*[0-9]"))
    return found[0] if found else None


def make_machine(folder: Path) -> None:
    """Fetch packages and wheels, and unpack them under their final names only when all are there."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt/status").touch()
    settings = folder / "apt.conf"
    settings.write_text(APT.replace("{}", str(folder)))
    apt = {**os.environ, "APT_CONFIG": str(settings)}
    subprocess.run(["apt-get", "update", "-qq"], env=apt, check=True)
    subprocess.run(["apt-get", "install", "-qq", "--download-only", *PACKAGES], env=apt, check=True)
    for package in sorted((folder / "apt/cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
    python = python_of(folder)
    assert python is not None, "the package python3 holds no Python"
    platforms = [f"--platform=manylinux_{glibc}_aarch64" for glibc in ("2_28", "2_27", "2_17")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-compile"]
    version = f"--python-version={python.name.removeprefix('python')}"
    target = folder / "site.partial"
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run([*pip, *platforms, version, f"--target={target}", *WHEELS], check=True)
    target.rename(folder / "site")


def run_core(folder: Path, qemu: str, out: Path) -> None:
    """Run tests.emulated.core on the emulated machine."""
    python = python_of(folder)
    assert python is not None
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{folder / 'site'}",
        "PYTHONHOME": str(folder / "root/usr"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(folder / "compiled"),
        "NUMBA_OPT": "0",  # compiling is what takes minutes there; the bits are the same
        "OMP_NUM_THREADS": "1",
    }
    # -S: the site-packages of Debian are not for us, and looking for them takes seconds
    command = [qemu, "-L", str(folder / "root"), str(python), "-S", "-m", "tests.emulated.core"]
    subprocess.run([*command, str(out)], cwd=ROOT, env=env, check=True)


def compare(here: Path, there: Path) -> bool:
    """Print what is the same and what is not; tell whether all is that has to be."""
    ours = np.load(here)
    theirs = np.load(there)
    exact = json.loads(str(ours["exact"]))
    found = json.loads(str(theirs["exact"]))
    differing = [name for name in found if found[name] != exact[name]]
    print(f"{len(found)} digests (shards, index, order, whole images): {differing or 'the same'}")
    same = not differing
    for kind in ("tiles", "resized"):
        gap = np.abs(ours[kind].astype(int) - theirs[kind])
        print(f"{kind}: {np.count_nonzero(gap):,} of {gap.size:,} values differ, by {gap.max()}")
        # OpenCV sums with other instructions there: its crops may be rounded otherwise
        same &= int(gap.max()) <= (1 if kind == "resized" else 0)
    return same


def main() -> None:
    """Make the machine if it is not there, run the core on both, compare."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".arm").resolve()
    qemu = shutil.which(QEMU)
    missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    if qemu is None or missing:
        sys.exit(f"needs {', '.join(missing or [QEMU])}: on Debian, apt install qemu-user-static")
    if not (folder / "site").is_dir():
        print(f"fetches packages and wheels of arm64 into {folder}: some 300 MB")
        make_machine(folder)
    print("runs the core here, then on the emulated machine: some 5 minutes", flush=True)
    here = folder / "here.npz"
    there = folder / "there.npz"
    subprocess.run([sys.executable, "-m", "tests.emulated.core", str(here)], cwd=ROOT, check=True)
    run_core(folder, qemu, there)
    if not compare(here, there):
        sys.exit("an Arm machine gives other bits than docs/guarantees.md promises")


if __name__ == "__main__":
    main()
