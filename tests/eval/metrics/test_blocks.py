"""Blocks of classes: order, bounds, threads, and what surrounds the call."""

import threading

import pytest
import torch

from eval.metrics import average_precision
from eval.metrics.blocks import SHARE_AT_ONCE, SMALL_SCORES, checked, over_classes

LARGE = (20_000, 40)  # enough for threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [LARGE, (500, 7), (3, 1), (4, 0)])
def test_classes_come_back_in_order_and_few_are_worked_on_at_once(shape, three_threads):
    lock, now, most, places = threading.Lock(), 0, 0, set()
    met = threading.Event()  # two threads have a block each

    def block(scores, extra):
        nonlocal now, most
        with lock:
            now += scores.numel()
            most = max(most, now)
            places.add(threading.get_ident())
            if len(places) > 1 or shape != LARGE:
                met.set()
        assert scores.is_contiguous()
        assert extra.shape == (len(scores), 2)
        assert met.wait(60), "one thread does all blocks"
        with lock:
            now -= scores.numel()
        return extra[:, 0] + scores.shape[1]

    scores = torch.zeros(shape)
    extra = torch.arange(shape[1]).repeat(2, 1)
    assert over_classes(block, scores, extra).tolist() == [shape[0] + c for c in range(shape[1])]
    assert most <= max(scores.numel() // SHARE_AT_ONCE, SMALL_SCORES)
    assert (len(places) > 1) == (shape == LARGE)
    assert torch.get_num_threads() == 3


def test_a_failing_block_is_heard_and_threads_come_back(three_threads):
    def fail(scores):
        raise RuntimeError("no such block")

    with pytest.raises(RuntimeError, match="no such block"):
        over_classes(fail, torch.zeros(LARGE))
    assert torch.get_num_threads() == 3


def test_gradients_and_inference_mode_do_not_matter(three_threads):
    scores = torch.rand(LARGE, generator=torch.Generator().manual_seed(0))
    labels = scores > 0.7
    expected = average_precision(scores, labels)
    wanting = average_precision(scores.clone().requires_grad_(), labels)
    assert torch.equal(wanting, expected)
    assert not wanting.requires_grad
    with torch.inference_mode():
        inferred = scores * 1
        assert torch.equal(average_precision(inferred, labels), expected)
    assert torch.equal(average_precision(inferred, labels), expected)


def test_no_samples_become_one_that_is_not_known():
    scores, labels, known = checked(torch.empty(0, 3), torch.empty(0, 3), None)
    assert scores.shape == labels.shape == known.shape == (1, 3)
    assert not known.any()
