"""Augmentation of whole batches in training: the same for a sample on any ranks and after a stop,
and nothing else changes.
"""

import numpy as np
import pytest
import torch

from shards.augment.sample_changes import BatchAugmentation
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Cache, Loader, View
from shards.pipeline.augmenter import Augmenter
from shards.sampler import World
from tests.pretend.stopping import StopAfter
from tests.train.here import command_here, cpu, train_here
from train.config import TrainConfig
from train.loop import Session, train
from train.optimise.batch_changes import batch_changes
from train.run import checkpoint
from train.run.folder import read_metrics

ALL = {"trivial_augment": True, "dihedral": True, "erasing": 0.5}
JITTER = {"color_jitter": 0.4, "hue_jitter": 0.1, "erasing": 0.3}


@pytest.fixture(scope="module")
def index(digits):
    return DatasetIndex.open(digits / "train")


def images_by_id(index, options, epoch, world=None, first_step=0, **given):
    """What the network is shown of each sample in an epoch."""
    loader = Loader(index, 24, seed=5, world=world or World(), view=View(32), **given)
    augment = Augmenter(BatchAugmentation(**options), loader.plan, index)
    loader.load_state_dict({**loader.state_dict(), "epoch": epoch, "step": first_step})
    seen = {}
    for step, batch in enumerate(loader, first_step):
        shown = augment(batch, epoch, step)
        assert shown.images.shape == batch.images.shape
        assert shown.images.is_contiguous(memory_format=torch.channels_last)
        for name, value in shown.tensors().items():
            assert name == "images" or value is getattr(batch, name)
        for number, image in zip(batch.ids.tolist(), shown.images, strict=True):
            if number >= 0:
                assert number not in seen
                seen[number] = image.clone()
    return seen


@pytest.mark.parametrize("options", [ALL, JITTER])
def test_a_sample_is_shown_alike_on_any_ranks_and_after_a_stop(index, options):
    whole = images_by_id(index, options, 1)
    assert len(whole) == index.num_samples
    plain = images_by_id(index, {}, 1)
    assert np.mean([torch.equal(whole[number], plain[number]) for number in whole]) < 0.3
    for num_ranks in (2, 3):
        for rank in range(num_ranks):
            part = images_by_id(index, options, 1, World(rank, num_ranks))
            assert all(torch.equal(image, whole[number]) for number, image in part.items())
    rest = images_by_id(index, options, 1, first_step=3)
    assert len(rest) == index.num_samples - 72
    assert all(torch.equal(image, whole[number]) for number, image in rest.items())
    other = images_by_id(index, options, 2)
    assert np.mean([torch.equal(whole[number], other[number]) for number in whole]) < 0.3


def test_a_batch_that_a_device_made_is_augmented_alike(index):
    given = {"view": View(32, augment="pad")}
    plain, cached = (
        Loader(index, 24, seed=5, cache=Cache(kind), device="cpu", **given)
        for kind in ("none", "device")
    )
    for step, (one, other) in enumerate(zip(plain, cached, strict=True)):
        shown = [
            Augmenter(BatchAugmentation(**ALL), loader.plan, index)(batch, 0, step).images
            for loader, batch in ((plain, one), (cached, other))
        ]
        assert torch.equal(*shown)


@pytest.mark.parametrize("options", [ALL, JITTER])
def test_a_stopped_run_goes_on_to_the_same_bits(digits, tmp_path, options):
    given = {"epochs": 2, "ema_decay": 0.9, "mixup": 0.2, "cutmix": 1.0, **options}
    whole = train_here(digits, tmp_path / "whole", **given)
    config = TrainConfig(**{**vars(whole), "out": str(tmp_path / "stopped"), "resume": True})
    with cpu():
        session = Session(config)
        progress, _ = session.train_epoch(session.begin(), StopAfter(2))
        session.saving.save(progress, {})
        session.saving.finish()
        session.folder.unlock()
    with cpu():
        assert train(config)
    one, other = (checkpoint.read(tmp_path / name / "last") for name in ("whole", "stopped"))
    for averaged in (False, True):
        weights = other.weights(averaged)
        assert all(torch.equal(value, weights[key]) for key, value in one.weights(averaged).items())


def test_validation_sees_images_as_they_are(digits, tmp_path):
    """With a learning rate of nothing the network stays: what training sees changes, validation
    does not.
    """
    for name, options in (("plain", {}), ("augmented", ALL)):
        train_here(digits, tmp_path / name, lr=1e-30, **options)
    plain, augmented = (read_metrics(tmp_path / name)[0] for name in ("plain", "augmented"))
    assert augmented["val_loss"] == plain["val_loss"]
    assert augmented["train_loss"] != plain["train_loss"]


def test_what_is_asked_for_is_done_in_order(digits, index):
    loader = Loader(index, 24)
    kinds = {
        (): {},
        ("Augmenter",): {"erasing": 0.1},
        ("Mix",): {"mixup": 0.1},
        ("Augmenter", "Mix"): {"dihedral": True, "cutmix": 1.0},
    }
    for names, options in kinds.items():
        made = batch_changes(TrainConfig(**options), loader)
        assert tuple(type(change).__name__ for change in made) == names


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"trivial_augment": True, "color_jitter": 0.4},
            "color_jitter is 0.4, but trivial_augment is set, which changes colours too: choose",
        ),
        ({"trivial_augment": True, "hue_jitter": 0.1}, "hue_jitter is 0.1, but trivial_augment"),
        ({"cutout": 8, "erasing": 0.25}, "cutout is 8 and erasing is 0.25: both cut out a part"),
        ({"dihedral": True, "flip": False}, "dihedral is set, but flip is off"),
        ({"color_jitter": 1.5}, "color_jitter is 1.5: give a number from 0 to 1"),
        ({"hue_jitter": 0.6}, "hue_jitter is 0.6: give a number from 0 to 0.5"),
        ({"erasing": -0.1}, "erasing is -0.1: give a number from 0 to 1"),
        ({"erasing": float("nan")}, "erasing is nan: give"),
    ],
)
def test_what_does_not_go_together_is_refused(options, says):
    with pytest.raises(DataError, match=says.replace(".", r"\.")):
        TrainConfig(**options)


def test_a_command_refuses_it_in_one_line(digits, tmp_path, capsys):
    args = ["--data", str(digits), "--out", str(tmp_path / "run"), "--cutout", "8"]
    status, _, err = command_here(capsys, "train", *args, "--erasing", "0.25")
    assert status == 2
    assert err.strip().splitlines()[-1].endswith("choose one of the two")
    assert not (tmp_path / "run").exists()
