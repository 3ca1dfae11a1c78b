"""Recipes and the commands that go with them name only what there is."""

import re
import shlex
from pathlib import Path

import pytest

from eval.config import EvalConfig
from preprocess.shard import _parse as parse_packing
from shards.commandline import joined, parse
from shards.errors import DataError
from train.__main__ import config_first
from train.checks import check_new
from train.config import TrainConfig
from train.export import ExportConfig
from train.network.build import build_network
from train.recipe import find_recipe
from train.sweep.points import points

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TEXTS = [*RECIPES, ROOT / "docs/recipes.md"]
COMMAND = re.compile(
    r"^(?:# )?(?:python|accelerate launch[-\w ]*?) -m (\S+)((?: (?!#)[^\n]*)?)$", re.MULTILINE
)
CHANNELS = {"planet-rgbn": 4, "planet-two-networks": 4}


def read(argv: list[str]) -> TrainConfig:
    return parse(
        TrainConfig,
        joined(config_first(argv), "--sweep"),
        prog="train",
        description="",
        config_file=True,
    )


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """The module and the arguments of every command in a text; a line that ends in a backslash goes
    on.
    """
    text = path.read_text().replace("\\\n", " ")
    return [(module, shlex.split(rest)) for module, rest in COMMAND.findall(text)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_configuration_that_makes_its_network(path):
    config = read(["--config", str(path)])
    assert TrainConfig.from_yaml(path) == config
    check_new(config)
    assert config.out == f"runs/{path.stem}"
    if config.sweep:
        assert len(points(config)) > 1
    channels = CHANNELS.get(path.stem, 3)
    assert len(config.mean) in (0, channels)
    own = {"channels": channels, "fusion": config.fusion, "activation": config.activation}
    build_network(config.model, 17, config.size, drop_rate=config.drop_rate, **own)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_what_it_is_and_how_to_run_it(path):
    assert path.read_text().startswith("# ")
    assert f"`recipes/{path.name}`" in (ROOT / "docs/recipes.md").read_text()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_names_only_options_that_there_are(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = commands(path)
    assert found or path.stem in ("digits", "voc-mobilenet", "voc-fast")
    for module, argv in found:
        if module == "train":
            config = read(argv)
            check_new(config)
            if config.sweep:
                points(config)
        elif module == "preprocess.shard":
            parse_packing(argv)
        elif module == "eval":
            parse(EvalConfig, joined(argv, "--ckpt"), prog="eval", description="")
        elif module == "train.export":
            parse(ExportConfig, argv, prog="export", description="")
        else:
            assert module in {"eval.predict", "tests.preprocess.planet_folder"}


def test_the_page_has_a_command_for_each_step():
    modules = [module for module, _ in commands(ROOT / "docs/recipes.md")]
    assert {"preprocess.shard", "train", "eval", "train.export"} <= set(modules)
    assert len(modules) > 20


@pytest.mark.parametrize("name", ["voc-resnet18", "voc-resnet18.yaml", "recipes/voc-resnet18.yaml"])
def test_a_recipe_is_found_by_its_name(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc-resnet18").mkdir()  # a folder is no recipe
    assert read(["--config", name, "--lr", "0.5"]).out == "runs/voc-resnet18"
    assert read([f"--config={name}"]).model == "resnet18"


def test_a_file_of_that_path_wins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("out: runs/mine\n")
    assert read(["--config", "digits"]).out == "runs/mine"
    # without --config it is ours, whatever files there are
    assert read(["--lr", "1"]).out == "runs/digits"


@pytest.mark.parametrize("name", ["voc-resnet", "mine.yaml", "recipes/mine.yaml"])
def test_an_unknown_name_lists_the_recipes(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read(["--config", name])
    assert str(error.value).startswith(
        f"--config {name}: no such file, and no recipe of that name: choose cifar10-cnn,"
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", ["my/recipe.yaml", "{lr: 1}", "/dev/fd/63", "-", "--lr", ""])
def test_what_is_no_name_is_left_to_the_parser(given):
    assert find_recipe(given) == given
