"""--validate-every: epochs without a validation leave the run as it is, and cost none."""

import json

import pytest
import torch

from shards.errors import DataError
from tests.train.here import command_here, evaluate_here, train_here
from tests.train.test_sizes import stopped_in
from train.config import TrainConfig
from train.run import checkpoint
from train.run.folder import read_metrics

SMALL = {"model": "test_convnext", "size": 32, "drop_rate": 0.1, "ema_decay": 0.9}
VALIDATED = ("val_loss", "val_mAP", "best_by")


def weights(run, which="last"):
    return checkpoint.read(run / which).weights(averaged=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("epochs", "every", "validated"),
    [
        (5, 1, [1, 2, 3, 4, 5]),
        (5, 2, [2, 4, 5]),
        (6, 3, [3, 6]),
        (7, 3, [3, 6, 7]),
        (3, 9, [3]),
        (1, 1, [1]),
    ],
)
def test_every_so_many_epochs_are_validated_and_always_the_last(epochs, every, validated):
    config = TrainConfig(epochs=epochs, validate_every=every)
    assert [e + 1 for e in range(epochs) if config.validates_after(e)] == validated


def test_less_than_one_is_refused():
    with pytest.raises(DataError, match="validate_every is 0: give at least 1"):
        TrainConfig(validate_every=0)


@pytest.fixture(scope="module")
def always(digits, tmp_path_factory):
    """Five epochs, each of them validated."""
    out = tmp_path_factory.mktemp("always") / "run"
    train_here(digits, out, epochs=5, **SMALL)
    return out


@pytest.fixture(scope="module")
def seldom(digits, tmp_path_factory):
    """The same, of which epochs 2, 4 and 5 are validated."""
    out = tmp_path_factory.mktemp("seldom") / "run"
    train_here(digits, out, epochs=5, validate_every=2, **SMALL)
    return out


def test_the_run_is_the_same_and_says_nothing_of_other_epochs(always, seldom):
    assert same(weights(always), weights(seldom))
    expected = read_metrics(always)
    found = read_metrics(seldom)
    assert [line["epoch"] for line in found] == [1, 2, 3, 4, 5]
    assert [line["train_loss"] for line in found] == [line["train_loss"] for line in expected]
    for line, other in zip(found, expected, strict=True):
        shown = {name: other[name] for name in VALIDATED} if line["epoch"] in (2, 4, 5) else {}
        assert {name: line[name] for name in VALIDATED if name in line} == shown


def test_the_best_epoch_is_one_that_was_validated(seldom, tmp_path):
    candidates = [line for line in read_metrics(seldom) if "val_mAP" in line]
    first_best = max(candidates, key=lambda line: (line["val_mAP"], -line["epoch"]))
    kept = checkpoint.read(seldom / "best").meta.progress
    assert (kept.best.epoch, kept.best.value) == (first_best["epoch"], first_best["val_mAP"])
    assert kept.epoch == kept.best.epoch
    metrics, _ = evaluate_here(seldom, tmp_path / "evaluated", "--precision", "no")
    assert metrics["mAP"] == pytest.approx(kept.best.value, abs=1e-12)


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_run_stopped_in_the_middle_goes_on_to_the_same_bits(epoch, seldom, digits, tmp_path):
    out = tmp_path / "stopped"
    options = {"epochs": 5, "validate_every": 2, **SMALL}
    stopped_in(digits, out, epoch, 5, **options)
    train_here(digits, out, resume=True, **options)
    assert same(weights(seldom), weights(out))
    assert same(weights(seldom, "best"), weights(out, "best"))
    kept = ("epoch", "train_loss", *VALIDATED)
    one, other = (
        [{name: line[name] for name in kept if name in line} for line in read_metrics(run)]
        for run in (seldom, out)
    )
    assert one == other


def test_a_run_goes_on_with_another_number(seldom, digits, tmp_path):
    """From before its first validation, when it has no best epoch yet."""
    out = tmp_path / "stopped"
    stopped_in(digits, out, 1, 5, epochs=5, validate_every=4, **SMALL)
    assert not (out / "best").exists()
    train_here(digits, out, resume=True, epochs=5, validate_every=3, **SMALL)
    assert same(weights(seldom), weights(out))
    assert [line["epoch"] for line in read_metrics(out) if "val_loss" in line] == [3, 5]


def test_the_line_of_an_epoch_says_what_there_is(digits, tmp_path, capsys):
    train_here(digits, tmp_path / "run", epochs=3, validate_every=2, **SMALL)
    first, second, third = capsys.readouterr().out.splitlines()[1:4]
    for line in (first, second, third):
        assert line.startswith("epoch ")
        assert "  lr " in line
        assert "images/s" in line
    assert "val loss" not in first
    assert "mAP" not in first
    assert "*" not in first
    for line in (second, third):
        assert "val loss" in line
        assert "mAP" in line


@pytest.mark.slow
def test_a_sweep_compares_the_validated_epochs(digits, tmp_path, capsys):
    status, _, err = command_here(
        capsys,
        *("train", "--data", str(digits), "--out", str(tmp_path / "sweep"), "--model"),
        *("test_convnext", "--size", "32", "--precision", "no", "--no-tensorboard", "--epochs"),
        *("3", "--validate-every", "2", "--sweep", "lr=0.01,0.02", "--global-batch-size", "16"),
    )
    assert status == 0, err
    described = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert [run["epochs_done"] for run in described["runs"]] == [3, 3]
    assert all(run["best_epoch"] in (2, 3) for run in described["runs"])
    assert all(run["val_loss"] > 0 for run in described["runs"])
    assert "<svg" in (tmp_path / "sweep/sweep.html").read_text()
