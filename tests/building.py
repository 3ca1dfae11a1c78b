"""The distributions, built as for PyPI, and an environment that has the wheel and not the
repository.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BACKEND = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"


def tracked_files() -> list[str]:
    """List what git has, and new files that it does not ignore; skip the test outside a repository."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git repository: nothing to compare the distributions with")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(
        listed, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def build(kind: str, source: Path, out: Path) -> Path:
    """Build the `sdist` or `wheel` of a folder with the setuptools of this environment."""
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BACKEND.format(kind), str(out)], cwd=source, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    (built,) = out.iterdir()
    return built


def build_both(folder: Path) -> tuple[Path, Path]:
    """Build the sdist of a clean copy of the repository, and the wheel of that sdist."""
    for name in tracked_files():
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "copy" / name)
    sdist = build("sdist", folder / "copy", folder / "sdist")
    with tarfile.open(sdist) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return sdist, build("wheel", unpacked, folder / "wheel")


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel. The other packages are those that run the tests: a second
    torch is 5 GB.
    """

    bin: Path

    @classmethod
    def make(cls, folder: Path, wheel: Path) -> "Installed":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        subprocess.run(
            [*pip, "install", "--no-deps", "--no-index", "--quiet", str(wheel)], check=True
        )
        asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        packages = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        # After the wheel: pip must not meet the editable install there. Python does not: it reads
        # .pth files in its own site folders alone.
        (Path(packages) / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        return cls(python.parent)

    def run(
        self, folder: Path, *words: str, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, such as `python` or `tarmac`, in a folder."""
        return run(
            [str(self.bin / words[0]), *words[1:]], folder, {"PYTHONPATH": "", **(more or {})}
        )


def run(
    command: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, on the CPU and one torch thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
