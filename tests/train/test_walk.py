"""How far it is from the command to a training step: a reader follows four calls, as in torchtitan."""

import inspect
from collections.abc import Iterator

from tests.train.here import command_here
from train.network.model import Classifier

PACKAGES = {"train", "shards", "eval"}


def callers() -> Iterator[str]:
    """Name this package's functions that are running, the innermost first, up to the command's
    `main`.
    """
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals["__name__"]
        if module.split(".")[0] in PACKAGES:
            yield f"{module}.{frame.f_code.co_qualname}"
        if module == "train.__main__":
            return
        frame = frame.f_back


def test_four_frames_lead_from_the_command_to_the_forward_pass(
    digits, tmp_path, capsys, monkeypatch
):
    walks, forward = [], Classifier.forward

    def noted(classifier: Classifier, images):
        if classifier.training:
            walks.append([*callers()][::-1])
        return forward(classifier, images)

    monkeypatch.setattr(Classifier, "forward", noted)
    small = (
        "--model",
        "test_convnext",
        "--size",
        "32",
        "--epochs",
        "1",
        "--precision",
        "no",
        "--no-tensorboard",
    )
    status, _, said = command_here(
        capsys, "train", "--data", str(digits), "--out", str(tmp_path), *small
    )
    assert status == 0, said
    assert len(walks) > 1
    four = [
        "train.__main__.main",
        "train.loop.train",
        "train.loop.Session.train_epoch",
        "train.optimise.step.Step.__call__",
    ]
    assert all(walk == four for walk in walks), walks[0]
