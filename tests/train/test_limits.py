"""Where a run ends early: no memory, a network that cannot, a stop between epochs, weights that are
no numbers.
"""

import sys
from contextlib import contextmanager

import pytest
import safetensors.torch
import torch
from torch import nn

from shards.errors import DataError
from tests.train.conftest import SMALL, fresh, succeed
from tests.train.here import train_here
from tests.train.test_sizes import stopped_in
from train.config import TrainConfig
from train.loop import Session
from train.optimise.step import Step
from train.run import checkpoint
from train.run.checkpoint import Meta
from train.run.folder import read_metrics
from train.run.launch import one_line_where_memory_ends
from train.run.progress import Diverged, Progress, check_weights
from train.run.stop import Stop


def test_a_lack_of_memory_is_one_line():
    with (
        pytest.raises(DataError, match=r"^out of memory \(.*\); give less$") as told,
        one_line_where_memory_ends("give less"),
    ):
        torch.empty(1 << 55, dtype=torch.uint8)
    assert "enforce fail" not in str(told.value)
    with pytest.raises(DataError, match="of the GPU"), one_line_where_memory_ends("of the GPU"):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ..."
        )
    with pytest.raises(RuntimeError, match="else"), one_line_where_memory_ends("give less"):
        raise RuntimeError("something else")


def test_batch_norm_of_one_image_is_one_line(digits, tmp_path):
    with pytest.raises(
        DataError, match=r"batch norm cannot normalise 1 image by itself: .* smaller --accumulate"
    ):
        train_here(digits, tmp_path, model="resnet18", global_batch_size=4, accumulate=4)


def test_a_stop_between_two_epochs_ends_the_run_there(digits, tmp_path, monkeypatch):
    stop = Stop()
    validate = Session.validate

    def asked_meanwhile(session: Session) -> dict[str, float]:
        stop.asked = True
        return validate(session)

    @contextmanager
    def ours():
        yield stop

    monkeypatch.setattr("train.loop.stop_on_signals", ours)
    monkeypatch.setattr(Session, "validate", asked_meanwhile)
    with pytest.raises(AssertionError):  # told to stop before the end
        train_here(digits, tmp_path, epochs=3)
    progress = checkpoint.read(tmp_path / "last").meta.progress
    assert (progress.epoch, progress.step) == (1, 0)
    assert len(read_metrics(tmp_path)) == 1


def test_weights_that_are_no_numbers_are_not_saved(digits, tmp_path, monkeypatch):
    check_weights(1, {"fine": torch.ones(3), "count": torch.tensor(4)})
    with pytest.raises(Diverged, match="epoch 2: the weight head is nan; try a lower --lr"):
        check_weights(2, {"fine": torch.ones(3), "head": torch.tensor([0.0, torch.inf])})
    take = Step.__call__

    def overflow(step: Step, *args) -> torch.Tensor:
        sums = take(step, *args)
        with torch.no_grad():
            next(step._model.parameters()).fill_(torch.inf)
        return sums

    monkeypatch.setattr(Step, "__call__", overflow)
    with pytest.raises(Diverged, match=r"the weight stem.* is nan"):
        train_here(digits, tmp_path, save_every_steps=1)
    assert not checkpoint.exists(tmp_path / "last")


THREADS = """
import sys, time
from contextlib import suppress
from pathlib import Path
from shards.commandline import run
from {module} import main
run(main)
def left():
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended meanwhile
            if "gloo" in (name := path.read_text().strip()):
                yield name
ends = time.monotonic() + 10
while [*left()] and time.monotonic() < ends:  # the system shows a joined thread a little longer
    time.sleep(0.01)
sys.stderr.write(" ".join(["left:", *left()]) + "\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds threads in /proc")
def test_no_thread_of_the_ranks_outlives_their_work(digits, tmp_path):
    """One that does may abort the process when the interpreter ends."""
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    train = ["--data", str(digits), "--out", str(tmp_path / "run"), *SMALL, "--epochs", "1"]
    for module, args in (
        ("train.__main__", train),
        ("eval.__main__", ["--ckpt", str(tmp_path / "run/best"), "--num-images", "1"]),
    ):
        script = tmp_path / f"{module}.py"
        script.write_text(THREADS.format(module=module))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", "true")
            result = fresh(*launch, str(script), *args)
        succeed(result)
        assert [line for line in result.stderr.splitlines() if line.startswith("left:")] == [
            "left:"
        ] * 2


class Twice(nn.Module):
    """A parameter under two names, as in timm's coat_tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 2)
        self.other = self.one


def test_a_parameter_under_two_names_is_saved_under_both(tmp_path):
    weights = Twice().state_dict()
    meta = Meta(
        ("a", "b"), "multilabel", (0.5,) * 3, (0.2,) * 3, Progress(), {"epoch": 0, "step": 0}, {}
    )
    checkpoint.save(tmp_path / "last", TrainConfig(), meta, weights, None, {})
    found = safetensors.torch.load_file(tmp_path / "last/model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {
        n: v.tolist() for n, v in weights.items()
    }
    assert set(found) == {"one.weight", "one.bias", "other.weight", "other.bias"}


@pytest.mark.parametrize("damage", ["no generators", "another optimiser", "no optimiser's state"])
def test_a_trainers_state_that_does_not_fit_is_one_line(damage, digits, tmp_path):
    """trainer.pt of another run, or an optimiser that another release grouped otherwise."""
    options = {"model": "test_convnext", "size": 32, "epochs": 2, "momentum": 0.9}
    stopped_in(digits, tmp_path / "run", 1, 2, **options)
    path = tmp_path / "run" / "last" / "trainer.pt"
    state = torch.load(path, weights_only=True)
    if damage == "no generators":
        del state["generators"]
    elif damage == "another optimiser":
        state["optimizer"]["param_groups"].pop()
    else:
        state["optimizer"]["param_groups"][0]["params"].pop()
    torch.save(state, path)
    with pytest.raises(DataError, match=r"last/trainer.pt: is not the state of this run") as said:
        train_here(digits, tmp_path / "run", resume=True, **options)
    assert "\n" not in str(said.value)
