"""What the commands share: help that tells what a reader needs, and one line for what goes wrong."""

import dataclasses
import math
import os
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest

from eval.config import EvalConfig
from eval.predict import PredictConfig
from preprocess.inspect import InspectConfig
from preprocess.shard import ShardConfig
from preprocess.sources.registry import SOURCES, find_source, with_options
from preprocess.verify import VerifyConfig
from shards.bench import BenchConfig
from shards.commandline import option, parse, run
from shards.errors import DataError
from shards.options import check_bounds, check_idle, free_on_resume, idle
from train.config import TrainConfig
from train.export import ExportConfig


@dataclass(frozen=True)
class Config:
    """Options of each kind."""

    name: str = option("", "what it is called")
    side: int = option(64, "side in pixels")
    scale: tuple[float, ...] = option((), "one or more")
    quiet: bool = option(False, "say nothing")
    images: tuple[str, ...] = option((), "files or folders", positional=True)


def test_help_tells_defaults_that_say_something_and_no_python(capsys):
    with pytest.raises(SystemExit) as leave:
        parse(
            Config,
            ["--help"],
            prog="python -m it",
            description="Do it.",
            epilog="example: python -m it a.jpg",
        )
    assert leave.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m it [options] images\n")
    assert "what it is called\n" in shown
    assert "side in pixels (default: 64)" in shown
    assert "one or more\n" in shown
    assert "files or folders\n" in shown
    assert "type:" not in shown
    assert shown.endswith("example: python -m it a.jpg\n")


def test_flags_are_read_with_dashes_or_underscores():
    config = parse(Config, ["a", "b", "--side=3", "--quiet"], prog="it", description="")
    assert config == Config(side=3, quiet=True, images=("a", "b"))


def file_below_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    (folder / "file/below").mkdir()


def name_too_long(folder: Path) -> None:
    (folder / ("x" * 300)).write_text("")


def nothing_there(folder: Path) -> None:
    (folder / "nothing").read_bytes()


def folder_for_a_file(folder: Path) -> None:
    folder.read_bytes()


def no_descriptor_left(folder: Path) -> None:
    raise OSError(24, os.strerror(24), str(folder / "x"))


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (file_below_a_file, "file/below: Not a directory; a file is where a folder is needed"),
        (name_too_long, ": File name too long; choose a shorter path"),
        (nothing_there, "nothing: No such file or directory; check its spelling"),
        (folder_for_a_file, ": Is a directory; a folder is where a file is needed"),
        (no_descriptor_left, "x: Too many open files; raise the limit"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_remedy(mistake, told, tmp_path, capsys):
    with pytest.raises(SystemExit) as leave:
        run(lambda: mistake(tmp_path))
    assert leave.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {tmp_path}")
    assert told in line
    assert line.count("\n") == 1


def test_an_error_without_a_path_is_ours_and_keeps_its_traceback():
    def fail() -> None:
        raise OSError(5, os.strerror(5))

    with pytest.raises(OSError, match="Input/output error"):
        run(fail)


@dataclass(frozen=True)
class Bounded:
    """Options with every kind of bounds, in groups."""

    loss: str = option("bce", "what is minimised", group="training")
    gamma: float = option(2.0, "how much", ge=0, only_with=("loss", "focal"), group="training")
    lr: float = option(0.1, "length of a step", gt=0, lt=math.inf, group="training")
    decay: float = option(0.0, "of 100% of the weights", ge=0, lt=1, group="training")
    size: int = option(
        0, "side", ge=16, unit="pixels", zero="the size of training", free_on_resume=True
    )
    images: int = option(5, "shown", ge=1, le=9, unit="images", group="report")
    threshold: float | None = option(
        None, "from where on", ge=0, le=1, unit="a probability", group="report"
    )
    share: float = option(0.5, "held out", gt=0, lt=1)
    top: int = option(3, "best", le=7)
    scale: tuple[float, float] = option((0.1, 1.0), "of the area", gt=0, le=1)
    epochs: int = option(1, "how often", ge=1)

    def __post_init__(self) -> None:
        check_bounds(self)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"gamma": -1.0}, "gamma is -1.0: give 0 or more"),
        ({"gamma": math.nan}, "gamma is nan: give 0 or more"),
        ({"lr": 0.0}, "lr is 0.0: give a finite number above 0"),
        ({"lr": math.inf}, "lr is inf: give a finite number above 0"),
        ({"decay": 1.0}, "decay is 1.0: give a number from 0 to below 1"),
        ({"size": 15}, "size is 15: give at least 16 pixels, or 0 for the size of training"),
        ({"images": 10}, "images is 10: give from 1 to 9 images"),
        ({"threshold": 1.5}, "threshold is 1.5: give a probability from 0 to 1"),
        ({"share": 0.0}, "share is 0.0: give a number above 0 and below 1"),
        ({"top": 8}, "top is 8: give a number at most 7"),
        ({"scale": (0.0, 1.0)}, "scale is [0.0, 1.0]: give a number above 0 and at most 1"),
        ({"epochs": 0}, "epochs is 0: give at least 1"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_what_to_give(values, told):
    with pytest.raises(DataError) as error:
        Bounded(**values)
    assert str(error.value) == told


def test_bounds_include_what_they_say():
    Bounded(size=0, images=9, threshold=0.0, decay=0.0, top=7, scale=(1.0, 1.0), gamma=math.inf)
    Bounded(size=16, images=1, threshold=1.0)
    with pytest.raises(TypeError):  # a configuration file that says `epochs: null`
        Bounded(epochs=None)


def test_a_flag_out_of_its_bounds_is_named_as_a_flag():
    with pytest.raises(DataError, match=r"^--max-rejects is -1: give 0 or more$"):
        ShardConfig(max_rejects=-1)


def test_an_option_that_does_nothing_is_named_with_what_it_needs():
    assert idle(Bounded()) == {"gamma": ("loss", "focal")}
    check_idle(Bounded())
    check_idle(Bounded(loss="focal", gamma=1.0))
    with pytest.raises(DataError) as error:
        check_idle(Bounded(gamma=1.0))
    assert (
        str(error.value)
        == "gamma is 1, but loss is bce: leave it out (--gamma 2), or give --loss focal"
    )


def test_what_may_change_on_resume_is_what_is_declared():
    assert free_on_resume(Bounded) == ("size",)


def test_help_has_groups_bounds_and_conditions(capsys):
    with pytest.raises(SystemExit):
        parse(Bounded, ["--help"], prog="it", description="")
    shown = capsys.readouterr().out
    options, training, report = (
        shown.index(f"\n{title}:\n") for title in ("options", "training", "report")
    )
    assert (
        options
        < shown.index("--epochs")
        < training
        < shown.index("--decay")
        < report
        < shown.index("--images")
    )
    shown = " ".join(shown.split())
    assert "--gamma X with --loss focal: how much (default: 2)" in shown
    assert "of 100% of the weights (default: 0; from 0 to below 1)" in shown
    assert "--size N side (default: 0; at least 16, or 0)" in shown
    assert "--threshold X from where on (from 0 to 1)" in shown
    assert "--scale [X,...] of the area (default: [0.1,1.0];" in shown


COMMANDS = {
    "preprocess.shard": ShardConfig,
    "preprocess.verify": VerifyConfig,
    "preprocess.inspect": InspectConfig,
    "shards.bench": BenchConfig,
    "train": TrainConfig,
    "train.export": ExportConfig,
    "eval": EvalConfig,
    "eval.predict": PredictConfig,
} | {
    f"preprocess.shard --source {name}": with_options(ShardConfig, find_source(name))
    for name in SOURCES
}
NUMERIC = [
    (command, field.name)
    for command, config in COMMANDS.items()
    for field in dataclasses.fields(config)
    if {int, float} & {hint := typing.get_type_hints(config)[field.name], *typing.get_args(hint)}
    # crop_scale, mean, std: `train.config` checks the pairs, and `train.by_epoch` 128:224
    and typing.get_origin(hint) is not tuple
    and str not in typing.get_args(hint)
    and (
        config is ShardConfig
        or field.name not in {own.name for own in dataclasses.fields(ShardConfig)}
    )
]


def test_the_numeric_options_are_found():
    assert {
        ("train", "lr"),
        ("eval.predict", "threshold"),
        ("preprocess.shard --source planet", "clip_percent"),
    } < {*NUMERIC}
    assert len(NUMERIC) > 55


@pytest.mark.parametrize(("command", "name"), NUMERIC)
def test_every_number_has_a_lowest_value_and_below_it_is_refused_in_one_line(command, name, capsys):
    config = COMMANDS[command]
    bounds = config.__dataclass_fields__[name].metadata["bounds"]
    assert bounds.ge is not None or bounds.gt is not None, f"{command}: {name} has no lower bound"
    argv = (
        ["x"]
        if command not in ("train", "eval") and not command.startswith("preprocess.shard")
        else []
    )
    for value in {-1, bounds.gt if bounds.gt is not None and not bounds.zero else -2}:
        with pytest.raises(SystemExit) as leave:
            run(
                lambda value=value: parse(
                    config, [*argv, f"--{name}={value}"], prog="x", description=""
                )
            )
        assert leave.value.code == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"{value}" in told
        assert name in told.replace("-", "_")
        assert bounds.remedy() in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_shows_its_default(command, capsys):
    config = COMMANDS[command]
    with pytest.raises(SystemExit):
        parse(config, ["--help"], prog="x", description="")
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(config):
        assert len(field.metadata["help"]) > 5
        assert field.metadata["positional"] or f" --{field.name.replace('_', '-')}" in shown
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert f"(default: {field.default:g}" in shown
