"""The registry of sources: a user's own class, flags that belong to one source, and what does not
fit.
"""

import dataclasses
import itertools
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocess.record import Record, Source, check_records
from preprocess.shard import PROG, ShardConfig, main
from preprocess.sources.holdout import Holdout
from preprocess.sources.registry import (
    SOURCES,
    about,
    find_source,
    open_source,
    options,
    with_options,
)
from shards.commandline import option
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import write_photographs
from tests.preprocess.commands import shard

MINE = """
from dataclasses import dataclass
from pathlib import Path
from preprocess.record import Record, Source
from shards.commandline import option

@dataclass
class Mine(Source):
    root: Path
    pattern: str = option("*.jpg", "which files")
    upside_down: bool = option(False, "last first")

    def __post_init__(self):
        self.class_names = ("even", "odd")

    def splits(self):
        return ("train",)

    def records(self, split):
        paths = sorted(self.root.glob(self.pattern), reverse=self.upside_down)
        return [Record(p.stem, p, p.name, (n % 2,), ()) for n, p in enumerate(paths)]

class Plain(Source):
    class_names = ("one",)
    def __init__(self, root):
        self.root = root
    splits = Mine.splits
    def records(self, split):
        return [Record(p.stem, p, p.name, (), ()) for p in sorted(self.root.glob("*.jpg"))]

class Unfinished(Source):
    def splits(self): ...

class Nameless(Plain):
    class_names = None

class Greedy(Plain):
    def __init__(self, root, more): ...

@dataclass
class Twice(Plain):
    root: Path
    quality: int = option(90, "as the packer's")

class Doubled(Plain):
    class_names = ("a", "a")

class Latin(Plain):
    class_names = ("caf\\udce9", "bar")

Number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of six photographs, and a module of sources beside it."""
    (tmp_path / "my_source.py").write_text(MINE)
    (tmp_path / "my_broken_source.py").write_text("import no_such_library_at_all\n")
    write_photographs(tmp_path / "photos", 6)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_source", None)


def test_a_users_own_source_with_flags_of_its_own(mine, monkeypatch, capsys):
    args = [
        "--order",
        "source",
        "--source",
        "my_source:Mine",
        "--root",
        str(mine / "photos"),
        "--out",
        str(mine / "out"),
    ]
    status, _, errors = shard(
        monkeypatch, capsys, *args, "--pattern", "photo 00[1-4].jpg", "--upside-down"
    )
    assert status == 0, errors
    index = DatasetIndex.open(mine / "out/train")
    assert [index.key(n)[-1] for n in range(4)] == list("4321")
    assert index.labels()[:, 1].tolist() == [False, True, False, True]
    told = json.loads((mine / "out/train/index.json").read_text())["command"]
    assert "--pattern 'photo 00[1-4].jpg'" in told
    assert told.endswith("--upside-down")
    status, told, _ = shard(monkeypatch, capsys, "--source", "my_source:Mine", "--help")
    assert (status, "which files" in told, "--difficult" in told) == (0, True, False)


def test_a_source_without_options_is_any_class(mine, monkeypatch, capsys):
    args = ["--source=my_source:Plain", "--root", str(mine / "photos"), "--out", str(mine / "out")]
    assert shard(monkeypatch, capsys, *args)[0] == 0
    assert DatasetIndex.open(mine / "out/train").num_samples == 6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("moon", "--source moon is unknown; choose one of "),
        ("my_source:", "is unknown"),
        ("no_module_here:Mine", "no module 'no_module_here'; run from the folder"),
        ("my_source.deeper:Mine", "no module 'my_source.deeper'"),
        (
            "my_source:Number",
            "not a class that extends preprocess.record.Source; it has Mine, Plain",
        ),
        ("my_source:Absent", "it has Mine, Plain"),
        ("my_source:Unfinished", "Unfinished lacks records"),
        ("my_source:Nameless", "class_names is None"),
        ("my_source:Doubled", "'a' twice"),
        (
            "my_source:Latin",
            r"class 'caf\udce9' is no UTF-8, reports and tables cannot name it; rename it",
        ),
        (
            "./my_source.py:Mine",
            "'./my_source.py' is no name of a module; run from the folder that holds it and give "
            "my",
        ),
        ("my_source.py:Mine", "give my_source:Mine"),
        ("..my_source:Mine", "'..my_source' is no name of a module"),
        (
            "my_source:Greedy",
            "Greedy(root, ...) cannot be made (missing a required argument: 'more')",
        ),
        ("my_source:Twice", "Twice.quality: the packer itself has a flag of this name"),
    ],
)
def test_what_does_not_fit_gets_one_line(mine, monkeypatch, capsys, name, says):
    args = ["--source", name, "--root", str(mine / "photos"), "--out", str(mine / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert says in errors
    assert not (mine / "out").exists()


def test_a_library_missing_inside_a_users_module_keeps_its_traceback(mine):
    with pytest.raises(ModuleNotFoundError, match="no_such_library_at_all"):
        find_source("my_broken_source:Mine")


def test_a_flag_of_another_source_is_refused(mine, monkeypatch, capsys):
    args = [
        "--source",
        "my_source:Plain",
        "--root",
        str(mine / "photos"),
        "--out",
        str(mine / "out"),
    ]
    status, _, errors = shard(monkeypatch, capsys, *args, "--difficult=positive")
    assert (status, errors.count("\n")) == (2, 1)
    assert "--difficult is a flag of --source digits or voc" in errors


@pytest.mark.parametrize("name", SOURCES)
def test_every_built_in_source_fits(name, tmp_path):
    source_class = find_source(name)
    config_class = with_options(ShardConfig, source_class)
    flags = {field.name for field in dataclasses.fields(config_class)}
    assert set(options(source_class)) <= flags
    assert source_class.__doc__
    if source_class.default_root(tmp_path / "out") is None:
        with pytest.raises(DataError, match=f"--source {name} needs --root, the "):
            open_source(name, source_class, None, {})


class Fixed(Source):
    class_names = ("a", "b", "c")

    def splits(self):
        return ("all",)

    def records(self, split):
        return []


@pytest.mark.parametrize(
    ("labels", "ignored", "task", "says"),
    [
        ((0, 3), (), "multilabel", "has labels (0, 3), but the dataset has 3 classes"),
        ((-1,), (), "multilabel", "count from 0"),
        ((1, 0), (), "multilabel", "sort them"),
        ((0, 1), (1,), "multilabel", "a class twice"),
        ((0, 1), (), "multiclass", "has 2 labels; with task multiclass"),
        ((), (), "multiclass", "has 0 labels"),
    ],
)
def test_records_that_break_the_rules(tmp_path, labels, ignored, task, says):
    source = Fixed()
    source.task = task
    good = Record("good", tmp_path / "good.jpg", "good.jpg", (1,), ())
    check_records("all", [good], source)
    with pytest.raises(DataError) as caught:
        check_records(
            "all", [good, Record("bad", tmp_path / "bad.jpg", "bad.jpg", labels, ignored)], source
        )
    assert says in str(caught.value)
    assert "bad.jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "bad.jpg ('') has an empty name; give each image a name of its own"),
        ({"name": 7}, "bad.jpg (7) has name 7 of type int; make it a str"),
        ({"path": "bad.jpg"}, "has path 'bad.jpg' of type str; make it a Path"),
        ({"source": Path("bad.jpg")}, "of type PosixPath; make it a str"),
        ({"labels": np.array([1])}, "has labels array([1]) of type ndarray; make it a tuple"),
        (
            {"labels": (np.int64(1),)},
            "has label np.int64(1) of type int64; make it an int, such as by array.tolist()",
        ),
        ({"ignored": (True,)}, "has label True of type bool"),
        ({"data": np.zeros(3)}, "has data of type ndarray; make it the bytes of an encoded image"),
    ],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_records_of_wrong_types(tmp_path, change, says, held_out):
    good = Record("good", tmp_path / "good.jpg", "good.jpg", (1,), ())
    bad = dataclasses.replace(good, **{"name": "bad", "source": "bad.jpg", **change})
    source = Fixed()
    source.records = lambda split: [good, good, bad]
    with pytest.raises(DataError) as caught:
        Holdout(source, 0.5).records("val") if held_out else check_records(
            "all", source.records("all"), source
        )
    assert says in str(caught.value)


HALF = """
class Half(Plain):
    def splits(self):
        return ("train", "empty")
    def records(self, split):
        return Plain.records(self, split) if split == "train" else []
"""


def test_a_split_without_images_is_found_before_the_others_are_packed(mine, monkeypatch, capsys):
    with (mine / "my_source.py").open("a") as file:
        file.write(HALF)
    args = [
        "--source",
        "my_source:Half",
        "--root",
        str(mine / "photos"),
        "--out",
        str(mine / "out"),
    ]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert "split 'empty' has no image; fill it, or leave it out with --splits" in errors
    assert not (mine / "out").exists()


def test_an_option_keeps_default_and_help():
    @dataclasses.dataclass
    class Optional(Fixed):
        root: str
        depth: int = option(3, "how deep")

    (field,) = (
        f for f in dataclasses.fields(with_options(ShardConfig, Optional)) if f.name == "depth"
    )
    assert (field.default, field.metadata["help"]) == (3, "how deep")


@pytest.mark.parametrize("name", SOURCES)
def test_the_help_of_a_source_tells_what_it_is_and_ends_with_its_own_example(
    name, monkeypatch, capsys
):
    status, out, _ = shard(monkeypatch, capsys, "--source", name, "--help")
    shown, example = (
        " ".join(out.split()),
        f"example: {PROG} --source {name} {find_source(name).example}",
    )
    assert status == 0
    assert shown.endswith(example)
    assert f"--source {name}: {about(find_source(name))}" in shown
    if name == "digits":
        return  # which writes its own root
    root = "nowhere that exists"
    words = [
        root if before == "--root" else word
        for before, word in itertools.pairwise(shlex.split(example))
    ]
    monkeypatch.setattr(sys, "argv", words[words.index("--source") - 1 :])
    with pytest.raises(DataError, match=root):  # so every flag of the example is one of this source
        main()


def test_an_option_of_a_source_may_declare_bounds(tmp_path, monkeypatch, capsys):
    source = """
from dataclasses import dataclass
from pathlib import Path
from preprocess.record import Record, Source
from shards.commandline import option

@dataclass
class Bounded(Source):
    root: Path
    share: float = option(0.5, "a share", gt=0, lt=1, unit="a share")

    def __post_init__(self):
        raise AssertionError("called")

    def splits(self):
        return ("all",)

    def records(self, split):
        return []
"""
    (tmp_path / "bounded_source.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    args = ["--source", "bounded_source:Bounded", "--root", str(tmp_path), "--share", "1"]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors) == (2, "error: --share is 1.0: give a share above 0 and below 1\n")
