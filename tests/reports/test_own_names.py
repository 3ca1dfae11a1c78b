"""A user's folder may have a train.py, an eval/ or a shards/ of its own: Tarmac's packages are
found all the same.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.building import ROOT, run
from tests.conftest import jpeg, photograph, write_imagefolder
from tests.faults.launching import on_ranks

OWN = 'raise SystemExit("a script of the user was run")\n'
SOURCE = """
from pathlib import Path
from preprocess.record import Record, Source

class Photograph(Record):
    def read(self):  # so workers have to find this module too
        return super().read()

class Birds(Source):
    class_names = ("robin", "wren")

    def __init__(self, root):
        self.root = root

    def splits(self):
        return ("train",)

    def records(self, split):
        paths = sorted(self.root.glob("*.jpg"))
        return [Photograph(p.stem, p, p.name, (n % 2,), ()) for n, p in enumerate(paths)]
"""


def make_own(folder: Path, *names: str) -> Path:
    """Write modules of the user's: a file such as train.py, or a package where the name ends in a
    slash.
    """
    for name in names:
        path = folder / (f"{name}__init__.py" if name.endswith("/") else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(OWN)
    return folder


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("eval", ["train.py", "shards.py", "preprocess.py"]),
        ("eval", ["train/", "shards/", "preprocess/"]),
        ("eval.predict", ["train.py", "shards/", "preprocess.py"]),
        ("train", ["eval.py", "shards.py"]),
        ("train.export", ["eval/", "shards/"]),
        ("preprocess.shard", ["shards.py", "train.py", "eval.py"]),
        ("tarmac", ["train.py", "eval/", "shards.py", "preprocess/"]),
    ],
)
def test_python_m_imports_no_module_of_the_working_folder(command, names, installed, tmp_path):
    words = ["train"] if command == "tarmac" else []
    done = installed.run(make_own(tmp_path, *names), "python", "-m", command, *words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize(("command", "path"), [("pack", ""), ("train", "."), ("eval", "own")])
def test_tarmac_imports_none_either_whatever_pythonpath_names(command, path, installed, tmp_path):
    for folder in (tmp_path, tmp_path / "own"):
        make_own(folder, "train.py", "eval.py", "shards/", "preprocess.py")
    done = installed.run(tmp_path, "tarmac", command, "--help", more={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: tarmac {command}")


def test_folders_of_data_are_no_modules(installed, tmp_path):
    for name in ("train", "eval", "shards", "preprocess"):
        (tmp_path / name / "cats").mkdir(parents=True)
        (tmp_path / name / "cats/x.jpg").write_bytes(b"")
    done = installed.run(tmp_path, "python", "-m", "eval", "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("start", [["tarmac", "pack"], ["python", "-m", "preprocess.shard"]])
def test_a_source_of_the_working_folder_is_found_and_by_the_workers_too(start, installed, tmp_path):
    own = ["train.py", "eval.py", "shards.py"] + (["preprocess.py"] if start[0] == "tarmac" else [])
    make_own(tmp_path, *own)
    (tmp_path / "birds.py").write_text(SOURCE)
    (tmp_path / "photos").mkdir()
    for number in range(20):
        (tmp_path / f"photos/{number}.jpg").write_bytes(jpeg(photograph(48, 40, number)))
    flags = ["--source", "birds:Birds", "--root", "photos", "--out", "data", "--workers", "2"]
    done = installed.run(tmp_path, *start, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "data/train/index.json").read_text())["num_samples"] == 20


@pytest.mark.slow  # two processes that import torch
def test_ranks_find_them_too(tmp_path):
    make_own(tmp_path, "train.py", "eval.py", "shards.py", "preprocess.py")
    write_imagefolder(tmp_path / "photos", 20)
    source = ["--source", "imagefolder", "--root", "photos", "--val-fraction", "0.2"]
    small = [
        "--model",
        "test_resnet",
        "--size",
        "32",
        "--precision",
        "no",
        "--no-tensorboard",
        "--epochs",
        "1",
    ]
    launch = on_ranks(2)[:-1]
    for words in (
        ["tarmac", "pack", *source, "--out", "data", "--workers", "1"],
        [
            *launch,
            "-m",
            "tarmac",
            "train",
            "--data",
            "data",
            "--out",
            "run",
            *small,
        ],
    ):  # from the source tree, which has the machine code of other tests
        done = run([sys.executable, "-m", *words], tmp_path, {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert "a script of the user" not in done.stdout + done.stderr
    assert "on 2 processes" in done.stdout
    assert (tmp_path / "run/best").is_dir()
