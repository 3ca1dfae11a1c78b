"""Each kind of training on generated data: it learns, and a stopped run goes on to the same bits."""

from contextlib import contextmanager

import pytest
import safetensors.torch
import torch

from shards.errors import DataError
from tests.train.here import train_here
from train.run.folder import read_metrics
from train.run.stop import Stop

pytestmark = pytest.mark.slow

KINDS = {
    "bce": ("digits", {"pos_weight": 10.0, "label_smoothing": 0.05}),
    "focal": ("digits", {"loss": "focal", "focal_gamma": 1.0, "mixup": 0.2}),
    "asl": ("digits", {"loss": "asl", "pos_weight": 5.0, "mixup": 0.2, "cutmix": 1.0}),
    "cross-entropy": ("shades", {"cutmix": 0.5, "label_smoothing": 0.1, "accumulate": 2}),
    "cnn": (
        "shades",
        {
            "model": "cnn",
            "activation": "gelu",
            "drop_rate": 0.2,
            "clip_norm": 0.1,
            "warmup_epochs": 1.0,
        },
    ),
    "late": (
        "four_bands",
        {"model": "test_resnet", "fusion": "late", "drop_rate": 0.2, "normalize": "dataset"},
    ),
    "early": ("four_bands", {"loss": "asl", "mixup": 1.0, "ema_decay": 0.9}),
}


class StopAfter(Stop):
    """Ask to stop when the loop has looked so often: it looks once a step."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self._left = num_steps

    @property
    def asked(self) -> bool:
        self._left -= 1
        return self._left < 0

    @asked.setter
    def asked(self, value: bool) -> None:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_goes_on_to_the_same_bits(kind, request, tmp_path, monkeypatch):
    data, options = KINDS[kind]
    options = {"epochs": 3, "optimizer": "adamw", "lr": 0.002, "global_batch_size": 32, **options}
    folder = request.getfixturevalue(data)
    train_here(folder, tmp_path / "whole", **options)
    metrics = read_metrics(tmp_path / "whole")
    # that of training depends on what is mixed with what
    losses = [line["val_loss"] for line in metrics]
    assert min(losses[1:]) < losses[0]

    @contextmanager
    def stop_in_the_second_epoch():
        yield StopAfter(num_steps + 1)

    num_steps = -(-{"digits": 200, "shades": 100, "four_bands": 96}[data] // 32)
    with monkeypatch.context() as patch:
        patch.setattr("train.loop.stop_on_signals", stop_in_the_second_epoch)
        with pytest.raises(AssertionError):  # told to stop before the end
            train_here(folder, tmp_path / "stopped", **options)
    assert len(read_metrics(tmp_path / "stopped")) == 1
    train_here(folder, tmp_path / "stopped", resume=True, **options)
    whole, stopped = (
        safetensors.torch.load_file(tmp_path / run / "last/model.safetensors")
        for run in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    for name in ("train_loss", "val_loss", *(("train_accuracy",) if data == "shades" else ())):
        assert [line[name] for line in read_metrics(tmp_path / "stopped")] == [
            line[name] for line in metrics
        ]


def test_every_step_is_clipped(shades, tmp_path):
    """Plain SGD moves the weights by at most lr * clip_norm a step: the second epoch's steps, which
    begin anew, too.
    """
    options = {"model": "cnn", "lr": 1.0, "global_batch_size": 32, "clip_norm": 0.001}
    for epochs in (1, 2):
        train_here(shades, tmp_path / str(epochs), epochs=epochs, **options)
    before, after = (
        safetensors.torch.load_file(tmp_path / name / "last/model.safetensors")
        for name in ("1", "2")
    )
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm()
    assert 0 < moved <= 4 * 0.001 * (1 + 1e-3)  # four steps


def test_pairs_need_an_even_batch(shades, tmp_path):
    with pytest.raises(DataError, match="global_batch_size is 15 on 1 rank, 15 samples each"):
        train_here(shades, tmp_path / "run", mixup=0.2, global_batch_size=15)
