"""A validation split without a positive: the best epoch is that of the lowest loss, and the run
says so.
"""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest

from preprocess.record import Record
from tests.conftest import jpeg, photograph
from tests.train.conftest import pack_here
from tests.train.here import command_here, train_here
from train.run import checkpoint
from train.run.folder import read_metrics
from train.run.progress import Best, better, judged
from train.sweep.comparison import Outcome, metric_of, winner

pytestmark = pytest.mark.slow


def write_set(root, val_labels, num=40):
    for split in ("train", "val"):
        records = []
        for number in range(num):
            labels = (number % 2,) if split == "train" else val_labels(number)
            data = jpeg(photograph(40, 40, number + 1000 * (split == "val")))
            records.append(Record(f"{split}-{number}", root, "made here", labels, (), data=data))
        pack_here(root, records, split, ("one", "two"))
    return root


@pytest.fixture(scope="module")
def without_positives(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("nothing"), lambda number: ())


def test_best_is_the_epoch_of_the_lowest_loss_and_the_run_says_so(without_positives, tmp_path):
    told = io.StringIO()
    with redirect_stdout(told):
        train_here(without_positives, tmp_path / "run", epochs=4, lr=0.02)
    first, *epochs, last = told.getvalue().splitlines()
    metrics = read_metrics(tmp_path / "run")
    losses = [line["val_loss"] for line in metrics]
    best = checkpoint.read(tmp_path / "run" / "best")
    assert np.argmin(losses) > 0  # or the first epoch would be the best in any case
    assert best.meta.progress.best == Best("val_loss", min(losses), 1 + int(np.argmin(losses)))
    assert best.meta.progress.epoch == best.meta.progress.best.epoch
    assert [(line["val_mAP"], line["best_by"]) for line in metrics] == [(None, "val_loss")] * 4
    assert first.endswith("best by val loss (no mAP: no positives)")
    starred = [
        f"val loss {losses[0]:.4f}*" in epochs[0],
        *(
            f"{loss:.4f}*  mAP nan" in line
            for loss, line in zip(losses[1:], epochs[1:], strict=True)
        ),
    ]
    assert starred == [loss == min(losses[: place + 1]) for place, loss in enumerate(losses)]
    assert f"best: epoch {best.meta.progress.best.epoch}, val loss {min(losses):.4f}" in last


def test_it_goes_on_so_when_resumed(without_positives, tmp_path):
    whole = train_here(without_positives, tmp_path / "whole", epochs=3, lr=0.02)
    train_here(without_positives, tmp_path / "run", epochs=3, lr=0.02)
    last = tmp_path / "run" / "last" / "checkpoint.json"
    described = json.loads(last.read_text())
    described["progress"] |= {
        "epoch": 2,
        "best": {"metric": "val_mAP", "value": None, "epoch": 1},
    }  # of a release before
    described["loader"] |= {"epoch": 2, "step": 0}
    last.write_text(json.dumps(described))
    train_here(without_positives, tmp_path / "run", epochs=3, lr=0.02, resume=True)
    assert checkpoint.read(tmp_path / "run" / "best").meta.progress.best.metric == "val_loss"
    assert whole.epochs == len(read_metrics(tmp_path / "run"))


def test_with_positives_nothing_is_different(tmp_path):
    told = io.StringIO()
    with redirect_stdout(told):
        train_here(write_set(tmp_path / "data", lambda number: (number % 2,)), tmp_path / "run")
    assert "best by" not in told.getvalue()
    assert read_metrics(tmp_path / "run")[0]["best_by"] == "val_mAP"
    assert checkpoint.read(tmp_path / "run" / "best").meta.progress.best.metric == "val_mAP"


def line(epoch, value, loss):
    return {"epoch": epoch, "val_mAP": value, "val_loss": loss}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(None, 0.9), (None, 0.5), (None, 0.7)], Best("val_loss", 0.5, 2)),
        # a low loss is no reason against any mAP
        ([(None, 0.9), (0.1, 0.95), (None, 0.2)], Best("val_mAP", 0.1, 2)),
        ([(0.3, 0.1), (0.2, 0.05), (None, 0.01), (0.4, 2.0)], Best("val_mAP", 0.4, 4)),
        ([(None, 0.5), (None, 0.5)], Best("val_loss", 0.5, 1)),
    ],
)
def test_values_of_two_metrics_are_never_compared(lines, expected):
    best = None
    for epoch, (value, loss) in enumerate(lines, start=1):
        best = better(best, judged(line(epoch, value, loss), "val_mAP"))
    assert best == expected


def test_a_sweep_of_such_runs_takes_the_lowest_loss():
    def outcome(name, best):
        return Outcome(name, {"lr": 1.0}, 1, "finished", best, [])

    runs = [
        outcome("a", Best("val_loss", 0.5, 1)),
        outcome("b", Best("val_loss", 0.4, 1)),
        outcome("c", None),
    ]
    assert winner(runs).name == "b"
    assert metric_of(runs) == "val_loss"
    runs.append(outcome("d", Best("val_mAP", 0.01, 1)))
    assert winner(runs).name == "d"
    assert metric_of(runs) == "val_mAP"


def test_a_sweep_over_a_set_without_positives(without_positives, tmp_path, capsys):
    args = [
        "train",
        "--data",
        str(without_positives),
        "--out",
        str(tmp_path / "sweep"),
        "--no-tensorboard",
    ]
    args += [
        "--model",
        "test_convnext",
        "--size",
        "32",
        "--epochs",
        "1",
        "--precision",
        "no",
        "--sweep",
        "lr=0.00001,0.03",
    ]
    status, _, told = command_here(capsys, *args)
    assert status == 0, told
    described = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert described["metric"] == "val_loss"
    losses = {run["name"]: run["val_loss"] for run in described["runs"]}
    assert described["best"]["run"] == min(losses, key=lambda name: losses[name])
