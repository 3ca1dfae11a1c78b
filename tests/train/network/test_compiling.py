"""torch.compile: a graph for each size of training and one for validation, the same checkpoints, one
line where there is no compiler.
"""

import pytest
import torch
from torch._dynamo.utils import counters

from shards.errors import DataError
from tests.train.here import cpu, train_here
from train.config import TrainConfig
from train.loop import Session
from train.network import compiling
from train.network.compiling import one_line_where_compiling_fails
from train.run import checkpoint
from train.run.folder import read_metrics

pytestmark = pytest.mark.slow

ALIKE = {"drop_rate": 0.0, "model": "test_resnet", "lr": 0.01}


@pytest.fixture
def without_inductor(monkeypatch):
    """Capture graphs, as for any backend, and run them as they are: no compiler has to work."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema_decay": 0.9, "mixup": 0.2, "accumulate": 2},
        {"precision": "bf16", "clip_norm": 1.0, "grad_checkpointing": True},
        {"trivial_augment": True, "dihedral": True, "erasing": 0.5},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_a_run_has_one_graph_for_training_and_one_for_validation(
    options, digits, tmp_path, without_inductor
):
    """200 samples in batches of 16, 90 in batches of 64: the last ones are padded."""
    counters.clear()
    train_here(digits, tmp_path / "run", compile=True, epochs=2, **{**ALIKE, **options})
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_each_size_of_training_has_a_graph_and_none_is_made_twice(
    digits, tmp_path, without_inductor
):
    """The limit of torch for recompilations of one function does not count sizes either."""
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=1):
        options = {**ALIKE, "size": "32:96", "ema_decay": 0.9}
        train_here(digits, tmp_path / "run", compile=True, epochs=4, **options)
    assert [line["size"] for line in read_metrics(tmp_path / "run")] == [32, 32, 64, 96]
    assert counters["stats"]["unique_graphs"] == 3 + 1
    assert not counters["graph_break"]
    train_here(digits, tmp_path / "plain", epochs=4, **options)
    losses = (
        [line["train_loss"] for line in read_metrics(tmp_path / name)] for name in ("run", "plain")
    )
    assert next(losses) == pytest.approx(next(losses), rel=1e-3)


def test_a_second_run_of_a_process_is_compiled_as_the_first(digits, tmp_path, without_inductor):
    """A sweep trains many."""
    for number in range(2):
        train_here(digits, tmp_path / str(number), compile=True, **ALIKE)
    first, second = (read_metrics(tmp_path / str(number)) for number in range(2))
    assert first[0]["train_loss"] == second[0]["train_loss"]


def test_compiled_and_plain_runs_go_on_from_each_other(digits, tmp_path, without_inductor):
    plain = train_here(digits, tmp_path / "plain", epochs=3, ema_decay=0.9, **ALIKE)
    for number, is_compiled in enumerate((True, False, True)):
        with cpu():
            session = Session(
                TrainConfig(
                    **{
                        **vars(plain),
                        "out": str(tmp_path / "mixed"),
                        "resume": number > 0,
                        "compile": is_compiled,
                    }
                )
            )
            progress = session.begin()
            assert progress.epoch == number
            progress, cost = session.train_epoch(progress, Never())
            session.finish_epoch(progress, cost)
            session.saving.finish()
            session.folder.unlock()
    expected, found = (checkpoint.read(tmp_path / name / "last") for name in ("plain", "mixed"))
    for averaged in (False, True):
        one, other = expected.weights(averaged), found.weights(averaged)
        assert list(one) == list(other)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4, msg=name)
    assert not any("_orig_mod" in name for name in found.weights())


class Never:
    """Nobody asks to stop."""

    asked = False


def test_without_a_compiler_it_is_one_line_before_a_folder_is_made(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(
        "torch._inductor.cpp_builder.is_conda_compiler", lambda: False, raising=False
    )
    with pytest.raises(
        DataError, match=r"needs a C\+\+ compiler and finds none.*--compile"
    ) as told:
        train_here(digits, tmp_path / "run", compile=True, **ALIKE)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_what_a_backend_raises_is_one_line():
    def refused(graph, inputs):
        raise ValueError("two\nlines")

    function = torch.compile(lambda values: values + 1, backend=refused)
    with (
        pytest.raises(DataError, match=r"^torch.compile failed .*; leave out --compile$") as told,
        one_line_where_compiling_fails(True),
    ):
        function(torch.ones(2))
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="other"), one_line_where_compiling_fails(True):
        raise ValueError("other")
