"""The numeric core on an emulated Arm machine, compared with this one.

    python -m tests.emulated.arm && pytest tests/emulated/test_arm.py

Debian's qemu-user runs Debian's Python for arm64, with the aarch64 wheels of the registry, in the
folder .arm, which is made once. Nothing is installed on this machine and nothing needs root. numba
compiles in the emulated process, so a run takes minutes. There is no torch in it: metrics are left
out.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".arm"
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


def is_made() -> bool:
    """Tell whether the machine is there and can be run."""
    return shutil.which(QEMU) is not None and (FOLDER / "site").is_dir()


def python_there() -> Path:
    """Find the emulated machine's Python."""
    return next((FOLDER / "root/usr/bin").glob("python3.[0-9]*[0-9]"))


def make_machine() -> None:
    """Fetch packages and wheels, and unpack them under their final names only when all are there."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (FOLDER / "apt" / name).mkdir(parents=True, exist_ok=True)
    (FOLDER / "apt/status").touch()
    settings = FOLDER / "apt.conf"
    settings.write_text(APT.replace("{}", str(FOLDER)))
    apt = {**os.environ, "APT_CONFIG": str(settings)}
    subprocess.run(["apt-get", "update", "-qq"], env=apt, check=True)
    subprocess.run(["apt-get", "install", "-qq", "--download-only", *PACKAGES], env=apt, check=True)
    for package in sorted((FOLDER / "apt/cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(FOLDER / "root")], check=True)
    if not (FOLDER / "root/lib").exists():  # Debian 13: one folder, and the link is another package
        (FOLDER / "root/lib").symlink_to("usr/lib")
    platforms = [f"--platform=manylinux_{glibc}_aarch64" for glibc in ("2_28", "2_27", "2_17")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-compile"]
    wheels = [f"{name}=={version(name)}" for name in WHEELS]  # the bits depend on the version
    python = f"--python-version={python_there().name.removeprefix('python')}"
    target = FOLDER / "site.partial"
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run([*pip, *platforms, python, f"--target={target}", *wheels], check=True)
    target.rename(FOLDER / "site")


def run_core(out: Path) -> None:
    """Run tests.emulated.core on the emulated machine."""
    python = python_there()
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{FOLDER / 'site'}",
        "PYTHONHOME": str(FOLDER / "root/usr"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(FOLDER / "compiled"),
        "NUMBA_OPT": "0",  # compiling is what takes minutes there; the bits are the same
        "OMP_NUM_THREADS": "1",
    }
    # -S: the site-packages of Debian are not for us, and looking for them takes seconds
    command = [QEMU, "-L", str(FOLDER / "root"), str(python), "-S", "-m", "tests.emulated.core"]
    subprocess.run([*command, str(out)], cwd=ROOT, env=env, check=True)


def main() -> None:
    """Make the machine if it is not there."""
    missing = [name for name in (QEMU, "apt-get", "dpkg-deb") if not shutil.which(name)]
    if missing:
        sys.exit(f"needs {', '.join(missing)}: on Debian, apt install qemu-user-static")
    if not is_made():
        print(f"fetches packages and wheels of arm64 into {FOLDER}: some 300 MB")
        make_machine()


if __name__ == "__main__":
    main()
