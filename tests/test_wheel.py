"""What is installed is what is in the repository, and works without it."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.building import ROOT, build, tracked_files

PACKAGES = ("preprocess/", "shards/", "eval/", "train/")


def missing(there: set[str], expected: set[str]) -> str:
    return f"pyproject.toml leaves out {', '.join(sorted(expected - there))}"


@pytest.fixture(scope="module")
def wheel_files(distributions) -> set[str]:
    return set(zipfile.ZipFile(distributions.wheel).namelist())


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel_files):
    own = {name for name in tracked_files() if name.startswith(PACKAGES)} | {"tarmac.py"}
    expected = own | {f"train/{name}" for name in tracked_files() if name.startswith("recipes/")}
    assert {Path(name).suffix for name in expected} >= {
        ".py",
        ".html",
        ".css",
        ".js",
        ".yaml",
        ".typed",
    }
    there = {name for name in wheel_files if ".dist-info/" not in name}
    assert there >= expected, missing(there, expected)
    assert there == expected


def test_the_sdist_can_be_built_from(distributions):
    with tarfile.open(distributions.sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    expected = {name for name in tracked_files() if name.startswith((*PACKAGES, "recipes/"))}
    expected |= {"pyproject.toml", "setup.py", "tarmac.py", "README.md", "LICENSE"}
    assert names >= expected, missing(names, expected)


def test_nothing_of_the_repository_is_imported(installed, tmp_path):
    script = "import tarmac, preprocess, eval, train; print(*(m.__file__ for m in (tarmac, preprocess, eval, train)))"
    done = installed.run(tmp_path, "python", "-c", script)
    assert done.returncode == 0, done.stderr
    for path in map(Path, done.stdout.split()):
        assert installed.bin.parent in path.parents
        assert ROOT not in path.parents


# 5,000 images are drawn and packed, machine code is compiled, the network is trained
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bare_commands_run_from_an_empty_folder(installed, tmp_path):
    commands = [
        ["python", "-m", "preprocess.shard"],
        ["python", "-m", "train", "--epochs", "1", "--no-tensorboard"],
        ["python", "-m", "eval"],
        ["python", "-m", "eval.predict", "data/digits-source/JPEGImages/val_000000.jpg"],
        ["tarmac", "verify", "data/digits"],
    ]
    for command in commands:
        done = installed.run(tmp_path, *command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert (tmp_path / "runs/digits/eval-val/report.html").stat().st_size > 100_000
    config = (tmp_path / "runs/digits/config.yaml").read_text()
    assert "model: test_resnet\n" in config  # of recipes/digits.yaml, not a default


def test_an_editable_install_finds_packages_before_folders_of_data(distributions, tmp_path):
    """setuptools' other way, a finder, comes after every folder called train or eval: its pages are
    then not found.
    """
    built = build("editable", distributions.sdist.parents[1] / "copy", tmp_path / "editable")
    with zipfile.ZipFile(built) as wheel:
        (pth,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        assert Path(wheel.read(pth).decode().strip()) == distributions.sdist.parents[1] / "copy"
