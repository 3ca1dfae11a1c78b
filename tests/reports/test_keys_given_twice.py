"""A key that is given twice in YAML or JSON: parsers keep the last one and say nothing."""

import json
from pathlib import Path

import pytest

from preprocess.sources.coco_json import read_instances
from shards.commandline import parse
from shards.errors import DataError
from train.config import TrainConfig


def recipe(folder: Path, text: str) -> TrainConfig:
    """Read a recipe as `python -m train --config` does."""
    (folder / "own.yaml").write_text(text)
    arguments = ["--config", str(folder / "own.yaml")]
    return parse(TrainConfig, arguments, prog="train", description="", config_file=True)


@pytest.mark.parametrize("again", ["lr: 0.01", "lr: 0.1", '"lr": 0.01', "'lr': 1"])
def test_a_recipe_that_gives_an_option_twice(tmp_path, capsys, again):
    with pytest.raises(SystemExit) as left:
        recipe(tmp_path, f"model: resnet18\nlr: 0.1\nsize: 32\n{again}\n")
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert "lr is given twice, in lines 2 and 4: keep one of them" in told
    assert told.count("\n") == 1


def test_a_configuration_of_a_run_that_gives_an_option_twice(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("lr: 0.1\nlr: 0.01\n")
    with pytest.raises(DataError, match=r"config\.yaml: .*lr is given twice, in lines 1 and 2"):
        TrainConfig.from_yaml(path)


def test_no_is_a_word(tmp_path):
    """YAML 1.1 reads `precision: no` as a truth value, and that was refused."""
    assert recipe(tmp_path, "precision: no\n").precision == "no"
    (tmp_path / "config.yaml").write_text("precision: no\n")
    for spelled in ("yes", "true", "True", "on"):
        assert recipe(tmp_path, f"pretrained: {spelled}\n").pretrained is True
    for spelled in ("no", "false", "off"):
        assert recipe(tmp_path, f"tensorboard: {spelled}\n").tensorboard is False


@pytest.mark.parametrize("spelled", ["1e-3", "0.001", "1.0e-03", ".001", "+1e-3", "1E-3"])
def test_numbers_stay_numbers(tmp_path, spelled):
    assert recipe(tmp_path, f"lr: {spelled}\n").lr == 0.001


def test_words_of_flags_stay_words():
    for flag, name in (("--out", "out"), ("--data", "data")):
        for word in ("null", "~", "[a]", "{a}", "a:", "123", "1e5", "2026-11-30", "no", "on"):
            config = parse(
                TrainConfig, [flag, word], prog="train", description="", config_file=True
            )
            assert getattr(config, name) == word
    config = parse(TrainConfig, ["--crop-scale", "[0.5,1]"], prog="train", description="")
    assert config.crop_scale == (0.5, 1.0)


def test_a_written_configuration_reads_back(tmp_path):
    config = TrainConfig(
        lr=1e-5, precision="no", mean=(0.5, 0.5, 0.5), std=(1e-3, 1.0, 1.0), normalize="own"
    )
    assert recipe(tmp_path, config.to_yaml()) == config
    assert TrainConfig.from_yaml(tmp_path / "own.yaml") == config


COCO = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(3)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"image_id": 0, "category_id": 1, "extra": 1},
        {"image_id": 1, "category_id": 5},
    ],
}


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("annotations", '"annotations"', '"annotations": [], "annotations"'),
        ("categories", '"categories"', '"categories": [{"id": 1, "name": "fox"}], "categories"'),
        ("category_id", '"category_id": 1', '"category_id": 5, "category_id": 1'),
        ("file_name", '"file_name": "1.jpg"', '"file_name": "2.jpg", "file_name": "1.jpg"'),
    ],
)
def test_coco_that_holds_a_key_twice(tmp_path, key, old, new):
    """Two lists of annotations, as files joined by hand have them: those of the first were lost."""
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO).replace(old, new, 1))
    with pytest.raises(
        DataError,
        match=rf"instances\.json is not JSON \(key '{key}' is there twice in one object\)",
    ):
        read_instances(path)


def test_coco_of_which_an_unused_key_is_there_twice(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO).replace('"extra"', '"extra": 2, "extra"', 1))
    assert read_instances(path).shown == {0: {1: True}, 1: {5: True}}
