"""--size 128:224: images grow by epoch, and nothing else changes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tqdm import tqdm

from shards.errors import DataError
from tests.train.conftest import ranks, succeed
from tests.train.here import command_here, cpu, evaluate_here, train_here
from train.by_epoch import STEP, TrainingSizes
from train.checks import check_new
from train.config import TrainConfig
from train.export import ExportConfig
from train.exporting import export
from train.loop import Session
from train.run import checkpoint
from train.run.folder import read_metrics

GROWING = {"model": "test_resnet", "size": "32:80", "epochs": 4, "lr": 0.01}
EXPECTED = [32, 48 // STEP * STEP, 64, 80]  # 48 is between two multiples
EXACT = ("train_loss", "val_loss", "val_mAP", "size")


@pytest.mark.parametrize("first", [1, 24, 32, 100, 128, 224])
@pytest.mark.parametrize("last", [224, 225, 320])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 8, 90])
def test_sizes_grow_by_steps_and_end_at_the_last_one(first, last, epochs):
    sizes = TrainingSizes(first, last)
    found = [sizes.at(epoch, epochs) for epoch in range(epochs)]
    assert all(one <= two for one, two in pairwise(found))
    assert found[-1] == last
    assert found[0] == (first if epochs > 1 else last)
    assert all(size in (first, last) or size % STEP == 0 for size in found)
    assert sum(size == last for size in found) >= epochs / 4
    assert sizes.all_of(epochs) == sorted(set(found))


def test_each_size_has_its_share_of_the_epochs():
    found = [TrainingSizes(128, 224).at(epoch, 16) for epoch in range(16)]
    assert found == 4 * [128] + 4 * [160] + 4 * [192] + 4 * [224]


@pytest.mark.parametrize(
    ("given", "kept"),
    [(224, 224), ("224", 224), ("224:224", 224), (" 32:48 ", "32:48"), ("128:224", "128:224")],
)
def test_a_configuration_keeps_what_was_given(given, kept, tmp_path):
    """Also what YAML takes for a number of base 60."""
    config = TrainConfig(size=given)
    assert config.size == kept
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config
    (tmp_path / "config.yaml").write_text(f"size: {given}\n")
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config
    assert config.last_size == int(str(kept).rpartition(":")[2])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("0", "size is 0: give at least 1"),
        ("0:32", "size is 0:32: give at least 1"),
        ("-5", "size is -5: give at least 1"),
        ("-5:32", "size is -5:32: give at least 1"),
        ("32:-5", "size is 32:-5: images grow; give 32"),
        ("x", "size is x: give pixels, such as 224, or 128:224 to grow"),
        ("224:128", "size is 224:128: images grow; give 128:224, or 224"),
        ("1.5", "size is 1.5: give pixels"),
        ("32:48:64", "size is 32:48:64: give pixels"),
        ("32:", "size is 32:: give pixels"),
        ("", "size is '': give pixels"),
        ("٣٢", "size is ٣٢: give pixels"),
        ("8:64", "pad is 8: an image of 8 pixels"),
        ("32:64", "size is 32:64, but with augment pad a cache keeps images of one size: give"),
    ],
)
def test_what_is_no_size_is_one_line(given, says, capsys, tmp_path):
    status, _, told = command_here(
        capsys, "train", "--config", "digits", "--out", str(tmp_path / "run"), f"--size={given}"
    )
    assert status == 2
    assert told.startswith(f"error: {says}")
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_an_epoch_for_smaller_images_it_is_refused():
    with pytest.raises(DataError, match="size is 32:64, but epochs is 1: no epoch is left"):
        check_new(TrainConfig(size="32:64", epochs=1))
    check_new(TrainConfig(size="32:64", epochs=2))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("cnn", "model cnn was made for images of 80 pixels and does not take those of 32"),
        ("vit_tiny_patch16_224", "does not take those of 32 pixels .*give --size 80"),
    ],
)
def test_a_network_of_one_size_is_refused_before_a_folder_is_made(model, says, digits, tmp_path):
    with pytest.raises(DataError, match=says) as told:
        train_here(digits, tmp_path / "run", **{**GROWING, "model": model})
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def grown(digits, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("grown") / "run"
    train_here(digits, out, ema_decay=0.9, **GROWING)
    return out


def test_an_epoch_is_trained_at_its_size_and_validated_at_the_last(grown, digits, tmp_path):
    assert [line["size"] for line in read_metrics(grown)] == EXPECTED
    assert yaml.safe_load((grown / "config.yaml").read_text())["size"] == "32:80"
    metrics, _ = evaluate_here(grown, tmp_path / "evaluated", "--precision", "no")
    best = checkpoint.read(grown / "best").meta.progress.best
    assert metrics["mAP"] == pytest.approx(best.value, abs=1e-12)
    assert metrics["prediction"]["size"] == "80"


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_a_cache_serves_all_sizes(cache, digits, tmp_path):
    train_here(digits, tmp_path / "run", cache=cache, **GROWING)
    assert [line["size"] for line in read_metrics(tmp_path / "run")] == EXPECTED


def test_what_is_exported_takes_the_last_size(grown, tmp_path):
    out = tmp_path / "model.pt"
    export(ExportConfig(ckpt=str(grown / "best"), format="torchscript", out=str(out)))
    assert torch.jit.load(out)(torch.zeros((1, 3, 80, 80), dtype=torch.uint8)).shape == (1, 20)


class After:
    """Asks to stop after so many looks."""

    def __init__(self, num_steps: int) -> None:
        self._left = num_steps

    @property
    def asked(self) -> bool:
        self._left -= 1
        return self._left <= 0


def stopped_in(digits: Path, out: Path, epoch: int, num_steps: int, **options) -> None:
    """Train up to the middle of an epoch."""
    with cpu():
        session = Session(
            TrainConfig(
                data=str(digits),
                out=str(out),
                global_batch_size=16,
                precision="no",
                tensorboard=False,
                **options,
            )
        )
        progress = session.begin()
        for _ in range(epoch):
            progress = session.finish_epoch(*session.train_epoch(progress, After(10**9)))
        progress, _ = session.train_epoch(progress, After(num_steps))
        assert (progress.epoch, progress.step) == (epoch, num_steps)
        session.saving.save(progress, {})
        session.saving.finish()
        session.saving.close()
        session.folder.unlock()


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_stopped_in_the_middle_goes_on_to_the_same_bits(epoch, grown, digits, tmp_path):
    out = tmp_path / "stopped"
    stopped_in(digits, out, epoch, 5, ema_decay=0.9, **GROWING)
    train_here(digits, out, ema_decay=0.9, resume=True, **GROWING)
    for averaged in (False, True):
        one, other = (checkpoint.read(run / "last").weights(averaged) for run in (grown, out))
        assert all(torch.equal(one[name], other[name]) for name in one)
    lines = zip(read_metrics(grown), read_metrics(out), strict=True)
    assert all(one[name] == other[name] for one, other in lines for name in EXACT)


def test_it_is_not_gone_on_with_at_other_sizes(digits, tmp_path):
    stopped_in(digits, tmp_path / "run", 0, 5, **GROWING)
    with pytest.raises(DataError, match="was trained with size '32:80', now 80: resume with"):
        train_here(digits, tmp_path / "run", resume=True, **{**GROWING, "size": 80})


@pytest.mark.slow
def test_it_goes_on_on_two_ranks(digits, tmp_path):
    options = {**GROWING, "model": "test_convnext"}
    train_here(digits, tmp_path / "whole", **options)
    stopped_in(digits, tmp_path / "run", 2, 5, **options)
    run = tmp_path / "run"
    args = ["--config", str(run / "config.yaml"), "--out", str(run), "--resume"]
    assert "on 2 processes" in succeed(ranks(2, "train", *args))
    whole, ours = (read_metrics(tmp_path / name) for name in ("whole", "run"))
    for name in EXACT:
        np.testing.assert_allclose(
            [line[name] for line in whole], [line[name] for line in ours], rtol=1e-3
        )


def test_bar_and_line_say_the_size_of_an_epoch(digits, tmp_path, monkeypatch, capsys):
    titles = []
    bar = type(
        "Bar",
        (tqdm,),
        {
            "__init__": lambda self, *args, **options: (
                titles.append(options["desc"]),
                tqdm.__init__(self, *args, **options),
            )[-1]
        },
    )
    monkeypatch.setattr("train.run.feed.tqdm", bar)
    train_here(digits, tmp_path / "run", **{**GROWING, "epochs": 2})
    assert titles == ["epoch 1/2, 32 px", "validate", "epoch 2/2, 80 px", "validate"]
    assert "epoch 2/2, 80 px  loss" in capsys.readouterr().out
