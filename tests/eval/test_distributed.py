"""Class-sharded evaluation on 1, 2 and 4 gloo processes: the bits of one process, and no whole
matrix anywhere.
"""

import pytest
import torch
import torch.multiprocessing

from eval.distributed import class_sharded, gather_classes, gather_samples
from eval.metrics.multilabel import label_ranking
from tests.eval.ranks import CASES, NUM_RANKS, measure, run, sample_set


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{(ranks, rank): [(values, shape of the shard) of each case]}."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run, (str(folder),), nprocs=4)
    places = [(num_ranks, place) for num_ranks in NUM_RANKS for place in range(num_ranks)]
    return {(n, place): torch.load(folder / f"{n}-{place}.pt") for n, place in places}


def bits(values):
    return [tensor.numpy().tobytes() for tensor in values]


@pytest.mark.slow  # four processes import torch
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("num_ranks", NUM_RANKS)
def test_every_rank_gets_the_bits_of_one_process(case, num_ranks, results):
    matrices = sample_set(*CASES[case])
    ranking = label_ranking(*matrices)
    expected = [*measure(*matrices), *ranking[:3], ranking.means()]
    assert not all(values.isnan().all() for values in expected[:4])
    for place in range(num_ranks):
        values, _ = results[num_ranks, place][case]
        assert bits(values) == bits(expected)


@pytest.mark.slow  # four processes import torch
@pytest.mark.parametrize("case", range(len(CASES)))
def test_classes_are_shared_out_evenly(case, results):
    num_samples, num_classes, _ = CASES[case]
    for num_ranks in NUM_RANKS:
        shapes = [results[num_ranks, place][case][1] for place in range(num_ranks)]
        assert all(shape[0] == num_samples for shape in shapes)
        shares = [shape[1] for shape in shapes]
        assert sum(shares) == num_classes
        assert max(shares) - min(shares) <= 1


def test_without_a_process_group_rows_come_in_the_order_of_ids():
    scores = torch.tensor([[3.0, 4.0], [9.0, 9.0], [1.0, 2.0]])
    ids = torch.tensor([2, -1, 0])
    shard = class_sharded(scores, scores > 2, torch.ones(3, 2), ids, 3)
    assert shard.scores.tolist() == [[1, 2], [0, 0], [3, 4]]
    assert shard.labels.tolist() == [[False, False], [False, False], [True, True]]
    assert shard.known.tolist() == [[True, True], [False, False], [True, True]]
    assert gather_classes(torch.tensor([5, 6]), shard).tolist() == [5, 6]
    assert gather_samples(scores[:, 0], ids, 3).tolist() == [1, 0, 3]
