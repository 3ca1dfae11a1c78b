"""A configuration file is held against the options: types, choices, bounds, each key once."""

import re

import pytest

from shards.commandline import parse
from shards.errors import DataError
from train.config import TrainConfig

REFUSED = [
    ("epochs: 2.5", "epochs is 2.5: give a whole number"),
    ("epochs: true", "epochs is true: give a whole number"),
    ("epochs:", "epochs is null: give a whole number"),
    ("loss: mse", "loss is 'mse': give auto, bce, focal, asl or cross_entropy"),
    ("optimizer: [sgd]", r"optimizer is \['sgd'\]: give sgd or adamw"),
    ("cache: off", "cache is false: give none, ram or device"),
    ('lr: "fast"', "lr is 'fast': give a number"),
    ("lr: .nan", "lr is nan: give a number above 0"),
    ("size: [1]", r"size is \[1\]: give a whole number, or text between quotes"),
    ("flip: maybe", "flip is 'maybe': give true or false"),
    ("flip: 1", "flip is 1: give true or false"),
    ("data: 5", "data is 5: give text, in a file between quotes"),
    ("data:", "data is null: give text"),
    ("crop_scale: 3", "crop_scale is 3: give 2 numbers"),
    ("crop_scale: [0.5]", r"crop_scale is \[0.5\]: give 2 numbers"),
    ("crop_scale: [a, b]", r"crop_scale is \['a', 'b'\]: give 2 numbers"),
    ("mean: [.nan]", r"mean is \[nan\]: give numbers"),
    ("lr: 1\nlr: 2", "lr is given twice, in lines 1 and 2: keep one of them"),
    ("", "is empty"),
    ("[]", r"holds \[\]"),
    ("- lr", r"holds \['lr'\]"),
    ("null: 1", "None"),
    ("colour: red", "colour"),
    ("epochs: " + "9" * 5000, "a value cannot be read"),
    ("a: " + "[" * 5000, "no YAML"),
    ("a: &a [x, x]\nb: &b [*a, *a]\ndata: [*b, *b]", r"no option a|does not know: a, b"),
    ("a" * (1 << 21), "more than 1,048,576 bytes"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=lambda each: each[:24])
def test_a_wrong_configuration_of_a_run_is_one_line(text, says, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=f"^{path}: .*({says})") as said:
        TrainConfig.from_yaml(path)
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 500


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=lambda each: each[:24])
@pytest.mark.parametrize("spelled", ["--config", "--conf"])
def test_a_wrong_recipe_is_the_same_line(spelled, text, says, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as leave:
        parse(TrainConfig, [spelled, str(path)], prog="it", description="", config_file=True)
    assert leave.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert re.match(f"error: {path}: .*({says})", line)


def test_each_of_several_files_is_checked(tmp_path, capsys):
    (tmp_path / "good.yaml").write_text("epochs: 2")
    (tmp_path / "bad.yaml").write_text("epochs: 2.5")
    files = [f"--config={tmp_path / name}" for name in ("good.yaml", "bad.yaml")]
    with pytest.raises(SystemExit):
        parse(TrainConfig, files, prog="it", description="", config_file=True)
    assert f"{tmp_path}/bad.yaml: epochs is 2.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr: 1", {"lr": 1.0}),
        ("lr: 1e-3", {"lr": 0.001}),
        ('lr: "0.1"', {"lr": 0.1}),
        ("precision: no", {"precision": "no"}),
        ("flip: no", {"flip": False}),
        ("size: 32:48", {"size": "32:48"}),
        ("size: '48'", {"size": 48}),
        ("crop_scale: [0.5, 1]", {"crop_scale": (0.5, 1.0)}),
        ("data: 'no'", {"data": "no"}),
        ("\ufeffepochs: 3", {"epochs": 3}),
    ],
)
def test_a_run_and_a_recipe_are_read_alike(text, values, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    config = TrainConfig.from_yaml(path)
    assert config == TrainConfig(**values)
    assert all(type(getattr(config, name)) is type(value) for name, value in values.items())
    given = parse(TrainConfig, ["--config", str(path)], prog="it", description="", config_file=True)
    assert given == config


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "config.yaml"
    for config in (
        TrainConfig(data="5", out="no", sweep="lr=1,2", lr=1e-5),
        TrainConfig(
            data="null", out="2020-01-01", size="32:64", normalize="own", mean=(0.5,), std=(1.0,)
        ),
    ):
        path.write_text(config.to_yaml())
        assert TrainConfig.from_yaml(path) == config
