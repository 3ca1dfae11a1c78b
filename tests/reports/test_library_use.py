"""The loader, the index and the metrics in a script of one's own: what such scripts give and ask."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from eval.metrics import (
    average_precision,
    macro_mean,
    tail_accuracy,
    tail_thresholds,
    weighted_class_mean,
)
from eval.ranking import rank
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.index import list_splits
from shards.loader import Loader, Order, View
from shards.sampler import World

SCORES = torch.tensor([[0.9, 0.2], [0.1, 0.8], [0.6, 0.4]])
LABELS = torch.tensor([[1, 0], [0, 1], [0, 1]])


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def loader(index) -> Loader:
    return Loader(index, 16, 32, num_threads=1)


def test_accelerate_takes_it_as_it_is(accelerator, loader):
    """It made a loader of its own around the batches: `Can only find the batch size of tensors`."""
    model = torch.nn.Linear(1, 1)
    _, prepared = accelerator.prepare(model, loader)
    assert prepared is loader
    assert accelerator.prepare(loader) is loader


def test_accelerate_saves_where_it_is(accelerator, loader, tmp_path):
    loader = accelerator.prepare(loader)
    accelerator.register_for_checkpointing(loader)
    iterator = iter(loader)
    next(iterator)
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=True)
    rest = [batch.ids.tolist() for batch in iterator]
    accelerator.load_state(str(tmp_path / "state"))
    assert [batch.ids.tolist() for batch in loader] == rest


def test_a_split_may_be_named_by_its_folder(index):
    expected = [batch.ids.tolist() for batch in Loader(index, 16, 32)]
    for folder in (index.root, str(index.root)):
        assert [batch.ids.tolist() for batch in Loader(folder, 16, 32)] == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"global_batch_size": 16.0}, "global_batch_size is 16.0: give a whole number"),
        ({"global_batch_size": "16"}, "global_batch_size is '16': give a whole number"),
        ({"global_batch_size": True}, "global_batch_size is True: give a whole number"),
        ({"size": (32, 32)}, r"size is \(32, 32\): give a whole number"),
        ({"size": 32.0}, "size is 32.0: give a whole number"),
        ({"size": np.array([32])}, r"size is array\(\[32\]\): give a whole number"),
        ({"seed": None}, "seed is None: give a whole number"),
        ({"num_threads": 1.5}, "num_threads is 1.5: give a whole number"),
        ({"world": (0, 2)}, r"world is \(0, 2\): give World\(rank, num_ranks\)"),
        ({"view": {"size": 32}}, r"view is {'size': 32}: give View\(size=\.\.\.\)"),
        ({"scale": 0.5}, "crop_scale is 0.5: give two shares of the area"),
        ({"scale": (0.5, None)}, r"crop_scale is \(0.5, None\): give two shares of the area"),
        ({"device": "gpu"}, "device is 'gpu': not one of torch's"),
        ({"read_timeout_s": -1}, "read_timeout_s is -1: give seconds, above 0"),
        ({"read_timeout_s": None}, "read_timeout_s is None: give seconds, above 0"),
        ({"size_at": 16}, "size_at is 16: give a function of the epoch"),
    ],
)
def test_an_option_of_another_type_is_one_line(index, options, says):
    with pytest.raises(DataError, match=says):
        Loader(index, **{"global_batch_size": 16, **options})


@pytest.mark.parametrize("given", [("0", "2"), (0, 2.0), (None, 2)])
def test_a_world_takes_whole_numbers(given):
    """Text is what a launcher's variables are."""
    with pytest.raises(DataError, match=r"(rank|num_ranks) is .*: give a whole number"):
        World(*given)


@pytest.mark.parametrize("name", ["groups", "window"])
def test_an_order_takes_whole_numbers(name):
    with pytest.raises(DataError, match=f"shuffle_{name} is 1.5: give a whole number"):
        Order("near", **{name: 1.5})


@pytest.mark.parametrize("name", ["size", "pad", "cutout"])
def test_a_view_takes_whole_numbers(name):
    with pytest.raises(DataError, match=f"{name} is 3.5: give a whole number"):
        View(**{name: 3.5})


def test_numbers_of_numpy_and_torch_become_pythons_own(index):
    """In a state numpy's could be written neither as JSON nor for torch.load."""
    loader = Loader(index, np.int64(16), torch.tensor(32), seed=np.int32(3))
    loader.set_epoch(np.int64(2))
    state = loader.state_dict()
    assert json.loads(json.dumps(state)) == state
    assert state["global_batch_size"] == 16
    assert state["epoch"] == 2


@pytest.mark.parametrize("epoch", [-1, 1.5, "1", None])
def test_an_epoch_that_is_none_is_refused(loader, epoch):
    """1.5 gave the order of epoch 1, which no resumed run could ask for, -1 an order of its own."""
    with pytest.raises(DataError, match=f"epoch is {epoch!r}: give"):
        loader.set_epoch(epoch)


@pytest.mark.parametrize("state", [None, [], "state"])
def test_a_state_that_is_no_dictionary_is_refused(loader, state):
    with pytest.raises(DataError, match=r"give one that Loader\.state_dict"):
        loader.load_state_dict(state)


def test_splits_are_listed_of_a_name_too(index):
    root = index.root.parent
    assert list_splits(str(root)) == list_splits(root)
    assert index.root.name in list_splits(root)


@pytest.mark.parametrize("sample", ["0", 1.0, slice(0, 2), None])
def test_a_sample_that_is_no_number_is_one_line(index, sample):
    with pytest.raises(DataError, match="give its number") as refused:
        ShardDataset(index)[sample]
    assert "numpy.flatnonzero(index.keys() == key)" in str(refused.value)


def test_a_sample_is_found_by_its_key(index):
    number = np.flatnonzero(index.keys() == index.key(5)).item()
    assert ShardDataset(index)[number][3] == index.key(5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: average_precision(SCORES.numpy(), LABELS), "scores"),
        (lambda: average_precision(SCORES, LABELS.tolist()), "labels"),
        (lambda: average_precision(SCORES, LABELS, LABELS.numpy() > 0), "known"),
        (lambda: average_precision(SCORES, None), "labels"),
        (lambda: tail_accuracy(SCORES, LABELS, 0.5), "thresholds"),
        (lambda: tail_thresholds(SCORES, 20), "known"),
        (lambda: rank(SCORES.numpy(), 2), "scores"),
        (lambda: macro_mean(SCORES[0].numpy()), "values"),
        (lambda: weighted_class_mean(SCORES[0].numpy(), LABELS), "values"),
        (lambda: weighted_class_mean(SCORES[0], LABELS.numpy()), "labels"),
        (lambda: weighted_class_mean(SCORES[0], LABELS, LABELS.numpy()), "known"),
    ],
)
def test_what_is_no_tensor_is_named(call, name):
    """An array gave `'str' object has no attribute 'type'`."""
    with pytest.raises(ValueError, match=f"{name} must be a tensor, got .*: torch.as_tensor"):
        call()


@pytest.mark.parametrize("scores", [LABELS > 0, SCORES + 0j])
def test_scores_of_another_kind_are_refused(scores):
    """Labels first, as scikit-learn has them, gave an AP of 1."""
    with pytest.raises(ValueError, match=f"scores must be real numbers, got {scores.dtype}"):
        average_precision(scores, SCORES)


def test_values_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"values must be \[K\] .* got shapes \(3,\) and \(3, 2\)"):
        weighted_class_mean(torch.ones(3), LABELS)


@pytest.mark.parametrize("k", [1.5, "2"])
def test_how_many_to_rank_is_a_whole_number(k):
    with pytest.raises(ValueError, match=f"k must be a whole number, got {k!r}"):
        rank(SCORES, k)
