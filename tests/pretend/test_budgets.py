"""What a training step may ask of the device, at most: launches, copies, waits of the host.

Launches in bf16 are not bounded: without cuDNN's graphs, which are not pretended, torch takes its
own kernels, one a sample.
"""

import json
import sys

import pytest

pytestmark = pytest.mark.slow

# Of a step on a batch that is on the device: ResNet-18, momentum off. fp16 casts 22 weights there
# and back, and scales its loss.
STEP_LAUNCHES = {"no": 205, "fp16": 260}
STEPS = ("no", "bf16", "fp16")
LOOPS = (*STEPS, "averaged", "augmented", "mixed and clipped")
# Of the trainer's step, loader and bar included: the batch; what mixing has drawn; what
# augmentation has.
LOOP_COPIES = {"mixed and clipped": 2, "augmented": 2}
# Of the augmentation of a batch, whatever its size.
AUGMENTATIONS = {
    "trivial augment": 98,
    "colour jitter": 31,
    "colour and hue jitter": 69,
    "dihedral": 17,
    "erasing": 6,
    "all": 104,
}
EPOCH_WAITS = 6  # of training and validation, outside saving
SAVING_WAITS = 3  # are the weights numbers, fp16's scale, its count
RANKS_LAUNCHES = 270
RANKS_COPIES = 1


@pytest.fixture(scope="module")
def step(pretended, digits, tmp_path_factory) -> dict:
    return pretended("tests.pretend.steps", "step", digits, tmp_path_factory.mktemp("step"))


@pytest.fixture(scope="module")
def loop(pretended, digits, tmp_path_factory) -> dict:
    return pretended("tests.pretend.steps", "loop", digits, tmp_path_factory.mktemp("loop"))


@pytest.mark.parametrize("precision", STEP_LAUNCHES)
def test_launches_of_a_step(step, precision):
    assert 100 < step[precision]["launches"] <= STEP_LAUNCHES[precision]


@pytest.mark.parametrize("precision", STEPS)
def test_waits_of_a_step(step, precision):
    assert step[precision]["waits"] == 0
    assert step[precision]["to_device"] == 0


@pytest.mark.parametrize("way", LOOPS)
def test_waits_and_copies_of_the_loop(loop, way):
    """The bar is on: its loss is copied aside, and read ten steps later."""
    assert loop[way]["waits"] == 0
    assert loop[way]["to_device"] <= LOOP_COPIES.get(way, 1)
    assert 0 < loop[way]["to_host"] <= 0.2


@pytest.fixture(scope="module")
def augmentation(pretended, digits, tmp_path_factory) -> dict:
    return pretended("tests.pretend.steps", "augment", digits, tmp_path_factory.mktemp("augment"))


@pytest.mark.parametrize("way", AUGMENTATIONS)
def test_launches_and_copies_of_an_augmentation(augmentation, way):
    """One copy brings what the host has drawn; torchvision launches the operations of each sample."""
    found = augmentation[way]
    assert 0 < found["launches"] <= AUGMENTATIONS[way]
    assert found["waits"] == 0
    assert found["to_device"] == 1


def test_an_average_costs_three_launches_at_most(loop):
    """Two with torch 2.14, three with 2.11, which cuts lists of tensors elsewhere."""
    assert 0 < loop["averaged"]["launches"] - loop["bf16"]["launches"] <= 3


def test_waits_of_an_epoch_and_of_saving(pretended, digits, tmp_path):
    found = pretended("tests.pretend.steps", "epoch", digits, tmp_path / "run")
    assert max(found["waits"][1:]) <= EPOCH_WAITS
    assert max(found["waits_in_saving"][1:]) <= SAVING_WAITS
    reserved = found["reserved"]
    assert reserved[2:] == reserved[1:2] * 3, reserved


def test_a_run_moves_from_the_cpu_to_the_device_and_back(pretended, digits, tmp_path):
    """Its optimiser is fused on the device alone, with all of its state there."""
    found = pretended("tests.pretend.steps", "move", digits, tmp_path / "run")
    for optimizer in ("sgd", "adamw"):
        for number, device in enumerate(("cpu", "cuda", "cpu again"), start=1):
            at = found[f"{optimizer}, {device}"]
            assert at["step"] == 2 * number
            assert set(at["fused"]) == {device == "cuda"}
            assert at["devices"] == [device.removesuffix(" again")]


def test_two_ranks_on_two_devices(pretended, digits, tmp_path):
    """Over gloo: NCCL cannot be pretended. Every gradient takes part in the exchange."""
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    )
    pretended("tests.pretend.steps", "ddp", digits, tmp_path / "run", devices=2, program=launcher)
    ranks = [json.loads((tmp_path / f"run.{rank}.json").read_text()) for rank in range(2)]
    assert [rank["device"] for rank in ranks] == ["cuda:0", "cuda:1"]
    for rank in ranks:
        assert 0 < rank["on_device"] <= RANKS_COPIES
        assert 0 < rank["launches"] <= RANKS_LAUNCHES
        assert rank["to_host"] >= 1  # gradients, on their way to the other rank
