"""What a command line or its configuration file gets wrong is said as a user would say it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from shards.commandline import option, parse


@dataclass(frozen=True)
class Kinds:
    """Options of each kind."""

    data: str = option("", "a folder")
    optimizer: Literal["sgd", "adamw"] = option("sgd", "which one")
    lr: float = option(0.1, "length of a step")
    epochs: int = option(3, "how often")
    threshold: float | None = option(None, "from where on")
    crop_scale: tuple[float, ...] = option((0.08, 1.0), "share of the area")
    flip: bool = option(True, "mirror")
    eval_batch_size: int = option(64, "samples")
    global_batch_size: int = option(64, "samples")


@dataclass(frozen=True)
class Exported:
    """One argument without a flag."""

    ckpt: str = option("", "a folder", positional=True)
    format: str = option("onnx", "which one")


@dataclass(frozen=True)
class Evaluated:
    """No argument without a flag."""

    ckpt: str = option("", "a folder")


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], config: type = Kinds) -> str:
    with pytest.raises(SystemExit) as leave:
        parse(config, argv, prog="it", description="", config_file=config is Kinds)
    assert leave.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    said, found, rest = line.removeprefix("error: ").partition(" it --help lists the options\n")
    assert found
    assert not rest
    return said.removesuffix(";")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--optimizer", "adam"], "--optimizer is 'adam': give sgd or adamw"),
        (["--epochs", "ten"], "--epochs is 'ten': give a whole number"),
        (["--epochs=1.5"], "--epochs is '1.5': give a whole number"),
        (["--lr", "1e-3x"], "--lr is '1e-3x': give a number"),
        (["--threshold", "high"], "--threshold is 'high': give a number"),
        (["--crop_scale", "0.5"], "--crop-scale is '0.5': give numbers, such as [0.08,1.0]"),
        (["--lr"], "--lr needs a value"),
        (["--optimiser", "sgd"], "no option --optimiser: did you mean --optimizer?"),
        (["--dta=x"], "no option --dta: did you mean --data?"),
        (
            ["--batch-size", "4"],
            "no option --batch-size: did you mean --eval-batch-size or --global-batch-size?",
        ),
        (["--learning_rate", "4"], "no option --learning-rate: did you mean --lr?"),
        (["--wholly-unlike"], "no option --wholly-unlike"),
        (["--flip", "yes"], "--flip takes no value, 'yes' follows it: give --flip or --no-flip"),
        (["my photos"], "'my photos' follows no option: did you mean --data 'my photos'?"),
    ],
)
def test_a_flag_is_named_with_its_value_and_remedy(argv, said, capsys):
    assert refused(argv, capsys) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimiser: sgd", "{}: no option optimiser: did you mean optimizer?"),
        ("learning_rate: 1", "{}: no option learning_rate: did you mean lr?"),
        ("epochs: ten", "{}: epochs is 'ten': give a whole number"),
        ("optimizer: adam", "{}: optimizer is 'adam': give sgd or adamw"),
        ("flip: maybe", "{}: flip is 'maybe': give true or false"),
        ("lr: [1, 2]", "{}: lr is [1, 2]: give a number"),
        ("lr: 1\n  epochs: 3", "{}: line 2: mapping values are not allowed here"),
    ],
)
def test_a_key_is_named_with_its_file(text, said, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert refused(["--config", str(path)], capsys) == said.format(path)


def test_a_wrong_key_of_the_file_is_not_blamed_on_a_right_flag(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: ten")
    said = refused(["--config", str(path), "--epochs", "5"], capsys)
    assert said == f"{path}: epochs is 'ten': give a whole number"


def test_a_folder_as_configuration(tmp_path, capsys):
    said = refused(["--config", str(tmp_path)], capsys)
    assert said == f"--config {tmp_path} is not a file: give a YAML file"


def test_arguments_with_and_without_their_names(capsys):
    said = refused(["--ckpt", "run/best"], capsys, Exported)
    assert said == "ckpt is given without --ckpt: it run/best"
    said = refused(["run/best"], capsys, Evaluated)
    assert said == "'run/best' follows no option: did you mean --ckpt run/best?"


def test_print_config_is_spelled_as_in_the_help(tmp_path: Path, capsys):
    for spelling in ("--print_config", "--print-config"):
        with pytest.raises(SystemExit) as leave:
            parse(Kinds, ["--lr", "0.5", spelling], prog="it", description="", config_file=True)
        assert leave.value.code == 0
        assert "lr: 0.5\n" in capsys.readouterr().out
