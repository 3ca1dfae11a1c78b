"""Checkpoints that a thread writes while training goes on."""

import errno
import threading

import pytest
import torch

from shards.errors import DataError
from tests.train.here import cpu, train_here
from train.config import TrainConfig
from train.loop import Session
from train.run import checkpoint
from train.run.checkpoint_writer import CheckpointWriter, copied_aside
from train.run.folder import read_metrics
from train.run.progress import Progress


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "checkpoint" in thread.name]


def test_jobs_are_done_in_order_and_none_after_one_that_failed():
    writer, done = CheckpointWriter(), []

    def fail() -> None:
        raise DataError("the disk is full")

    for number in range(3):
        writer.start(lambda number=number: done.append(number))
    writer.wait()
    assert done == [0, 1, 2]
    writer.start(fail)
    writer.start(lambda: done.append("a copy of what failed"))
    with pytest.raises(DataError, match="the disk is full"):
        writer.wait()
    writer.start(lambda: done.append("another"))
    writer.close()
    assert done == [0, 1, 2]
    assert names_of_threads() == []


def test_training_goes_on_while_a_job_runs():
    writer, may_end = CheckpointWriter(), threading.Event()
    writer.start(lambda: may_end.wait(60) or None)
    assert len(names_of_threads()) == 1
    may_end.set()
    writer.close()


def test_what_is_copied_aside_does_not_change():
    """Everything in a nested state, in its memory format, aliases too."""
    weight = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    state = ({"a": weight, "b": weight}, None, {"state": {0: {"step": torch.ones(())}}, "lr": 0.1})
    (weights, nothing, other), until_copied = copied_aside(state, torch.device("cpu"))
    kept = weight.clone()
    weight.zero_()
    state[2]["state"][0]["step"].add_(1)
    until_copied()
    assert nothing is None
    assert torch.equal(weights["a"], kept)
    assert torch.equal(weights["b"], kept)
    assert weights["a"].stride() == kept.stride()
    assert other == {"state": {0: {"step": torch.ones(())}}, "lr": 0.1}


@pytest.mark.slow
def test_what_is_written_is_the_state_at_the_time_of_saving(digits, tmp_path, monkeypatch):
    """However long the disk takes, and however far training is by then."""
    trained, save = threading.Event(), checkpoint.save

    def slow(*args) -> None:
        assert trained.wait(120)
        save(*args)

    monkeypatch.setattr(checkpoint, "save", slow)
    options = {"model": "test_resnet", "size": 32, "precision": "no", "tensorboard": False}
    with cpu():
        session = Session(
            TrainConfig(
                data=str(digits), out=str(tmp_path / "run"), ema_decay=0.9, momentum=0.9, **options
            )
        )
        progress = session.begin()
        before = {name: value.clone() for name, value in network_state(session).items()}
        session.saving.save(progress, {})
        session.train_epoch(progress, Never())
        trained.set()
        session.saving.finish()
        session.saving.close()
        session.folder.unlock()
    after = network_state(session)
    found = checkpoint.read(tmp_path / "run/last").weights()
    assert all(torch.equal(found[name], value) for name, value in before.items())
    assert not all(torch.equal(found[name], value) for name, value in after.items())


class Never:
    """Nobody asks to stop."""

    asked = False


def network_state(session: Session) -> dict[str, torch.Tensor]:
    return session.classifier.network.state_dict()


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_line_and_keeps_the_checkpoint_before(
    digits, tmp_path, monkeypatch
):
    write, num = checkpoint._write_trainer, []

    def full(path, trainer) -> None:
        num.append(path)
        if len(num) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, trainer)

    monkeypatch.setattr(checkpoint, "_write_trainer", full)
    with pytest.raises(DataError, match=r"could not be written \(No space left on device\)"):
        train_here(digits, tmp_path / "run", epochs=4)
    assert names_of_threads() == []
    last, best = (checkpoint.read(tmp_path / "run" / name) for name in ("last", "best"))
    assert last.meta.progress.epoch == best.meta.progress.epoch == 1
    train_here(digits, tmp_path / "run", epochs=4, resume=True)
    train_here(digits, tmp_path / "whole", epochs=4)
    one, other = (read_metrics(tmp_path / name) for name in ("run", "whole"))
    assert [line["val_loss"] for line in one] == [line["val_loss"] for line in other]
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == [
        "best",
        "last",
    ]


@pytest.mark.slow
def test_a_run_that_ends_early_leaves_no_thread(digits, tmp_path, monkeypatch):
    """Its checkpoint is written to the end."""
    finish = Session.finish_epoch

    def then_fail(session: Session, progress: Progress, cost: dict[str, float]) -> Progress:
        finish(session, progress, cost)
        raise DataError("something else")

    monkeypatch.setattr(Session, "finish_epoch", then_fail)
    with pytest.raises(DataError, match="something else"):
        train_here(digits, tmp_path / "run", epochs=3)
    assert names_of_threads() == []
    assert checkpoint.read(tmp_path / "run/last").meta.progress.epoch == 1
