"""Sets with one label a sample: accuracy and its interval, examples, mistakes, and the baseline's
accuracy.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.bootstrap import interval, resampled_average_precision, resampled_mean
from eval.metrics.multiclass import is_in_top, predicted_classes, target_classes, top_k_accuracy
from eval.prediction.predictions import Predictions
from eval.report.examples import MAX_COLUMNS, draw_examples, example_table
from eval.report.gallery import surest_mistakes
from eval.results.accuracy import class_accuracy
from eval.results.baseline import compare_metrics
from eval.results.files import write_metrics, write_per_class, write_predictions
from eval.results.measure import measure_predictions
from eval.results.summary import evaluation_summary


def make(num_samples=300, num_classes=8, seed=0, quality=2.0, names=None, keys=None):
    targets = torch.randint(num_classes, (num_samples,), generator=torch.Generator().manual_seed(7))
    labels = torch.nn.functional.one_hot(targets, num_classes) > 0
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(seed))
    scores = (noise + quality * labels).softmax(1)
    names = names or [f"class {c}" for c in range(num_classes)]
    return Predictions(scores, labels, labels | True, keys or [f"k{i}" for i in range(num_samples)], names, "test",
                       "multiclass")  # fmt: skip


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 1000))
def test_is_in_top_is_scikit_learns_order_with_ties(num_samples, num_classes, seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, 4, (num_samples, num_classes)) / 4)
    targets = torch.from_numpy(rng.integers(-1, num_classes, num_samples))
    for k in (1, 2, num_classes):
        best = np.argsort(scores.numpy(), axis=1, kind="stable")[:, ::-1][:, :k]
        expected = [target in row for target, row in zip(targets.tolist(), best, strict=True)]
        assert is_in_top(scores, targets, k).tolist() == expected
    counted = targets >= 0
    if counted.any():
        assert ((predicted_classes(scores) == targets)[counted]).double().mean() == top_k_accuracy(
            scores, targets
        )


def test_target_classes_leaves_out_what_is_not_known():
    labels = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]])
    known = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]]).bool()
    assert target_classes(labels, known).tolist() == [1, -1, -1, 2]


def test_resampled_means_are_of_the_same_resamples_as_average_precisions(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    values = torch.rand((50, 2), generator=generator)
    counted = torch.rand(50, generator=generator) < 0.8
    found = resampled_mean(values, counted, num=30, seed=3)
    draws = torch.Generator().manual_seed(3)
    for row in found:
        ids = torch.randint(50, (50,), generator=draws)
        ids = ids[counted[ids]]
        torch.testing.assert_close(row, values[ids].double().mean(0))
    monkeypatch.setattr("eval.metrics.bootstrap.CELLS_AT_ONCE", 100)
    torch.testing.assert_close(resampled_mean(values, counted, num=30, seed=3), found)
    # One positive above all negatives in every resample that has it: AP is 1 there, the mean of its
    # column is not NaN.
    top = torch.zeros(50, 1)
    top[0] = 1
    drawn = resampled_average_precision(top, top, num=30, seed=3)[:, 0]
    assert torch.equal(drawn == 1, resampled_mean(top, top[:, 0] > 0, num=30, seed=3)[:, 0] == 1)


def test_the_interval_of_an_accuracy_holds_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    held = 0
    for trial in range(300):
        hits = (torch.rand((400, 1), generator=generator) < 0.8).double()
        low, high = interval(resampled_mean(hits, hits[:, 0] >= 0, 200, trial), hits.mean(0))[
            :, 0
        ].tolist()
        held += low <= 0.8 <= high
    assert 0.90 <= held / 300 <= 0.985


def test_samples_without_a_known_label_are_not_counted():
    predictions = make()
    predictions.known[:40] = False
    rest = make()
    kept = Predictions(rest.scores[40:], rest.labels[40:], rest.known[40:], rest.keys[40:], rest.class_names, "test",
                       "multiclass")  # fmt: skip
    ours, theirs = measure_predictions(predictions), measure_predictions(kept)
    for name in ("accuracy", "top5_accuracy", "mean_class_accuracy"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-12)
    assert all(int(example["key"][1:]) >= 40 for example in draw_examples(predictions, seed=0))
    assert all(sample >= 40 for sample, *_ in surest_mistakes(predictions, 300))


def test_few_classes_have_no_top_5():
    found = measure_predictions(make(num_classes=5))
    assert found["top5_accuracy"] is None
    assert "top-5" not in evaluation_summary(found)


def test_examples_are_drawn_by_seed_and_tell_every_probability():
    predictions = make()
    drawn = draw_examples(predictions, seed=0)
    assert len(drawn) == 10
    assert drawn == draw_examples(predictions, seed=0)
    assert [example["key"] for example in drawn] != [
        example["key"] for example in draw_examples(predictions, seed=1)
    ]
    for example in drawn:
        row = predictions.keys.index(example["key"])
        assert example["probabilities"] == pytest.approx(predictions.scores[row].tolist())
        assert example["class"] == predictions.class_names[predictions.labels[row].int().argmax()]
        assert example["predicted"] == predictions.class_names[predictions.scores[row].argmax()]
    assert len(draw_examples(make(num_samples=3), seed=0)) == 3


@pytest.mark.parametrize("num_classes", [3, MAX_COLUMNS, MAX_COLUMNS + 1, 200])
def test_the_table_marks_the_right_class_and_a_wrong_guess(num_classes):
    predictions = make(num_classes=num_classes, quality=1.5)
    heads, rows = example_table(draw_examples(predictions, seed=0), predictions.class_names)
    assert len(rows) == 10
    assert {row.predicted == row.name for row in rows} == {True, False}
    for row in rows:
        assert len(row.cells) == len(heads)
        marked = {cell.kind for cell in row.cells} - {""}
        assert marked == ({"true"} if row.predicted == row.name else {"true", "wrong"})
        highest = max(cell.probability for cell in row.cells)
        assert next(c for c in row.cells if c.probability == highest).kind in ("true", "wrong")


def test_the_surest_mistakes_come_first():
    predictions = make(quality=1.0)
    found = surest_mistakes(predictions, 20)
    sure, guess = predictions.scores.max(1)
    targets = predictions.labels.int().argmax(1)
    wrong = [
        i for i in sure.argsort(descending=True, stable=True).tolist() if guess[i] != targets[i]
    ]
    assert [sample for sample, *_ in found] == wrong[:20]
    assert found[0] == (
        wrong[0],
        sure[wrong[0]].item(),
        int(targets[wrong[0]]),
        int(guess[wrong[0]]),
    )
    assert surest_mistakes(make(quality=100.0), 20) == []


def written(folder, predictions):
    folder.mkdir()
    write_metrics(folder / "metrics.json", measure_predictions(predictions))
    write_predictions(folder / "predictions.npz", predictions)
    return folder / "metrics.json"


def test_the_baselines_accuracy_is_compared_image_by_image_in_any_order_of_samples_and_classes(
    tmp_path,
):
    ours, theirs = make(seed=1, quality=2.5), make(seed=2, quality=1.5)
    found = compare_metrics(measure_predictions(ours), ours, written(tmp_path / "old", theirs))[
        "accuracy"
    ]
    right = [(p.scores.argmax(1) == p.labels.int().argmax(1)).double() for p in (ours, theirs)]
    assert found["difference"] == pytest.approx((right[0] - right[1]).mean().item())
    low, high = found["interval"]
    assert 0 < low < found["difference"] < high
    rows, columns = torch.randperm(300), torch.randperm(8)
    shuffled = Predictions(*(m[rows][:, columns] for m in (theirs.scores, theirs.labels, theirs.known)),
                           [theirs.keys[i] for i in rows], [theirs.class_names[i] for i in columns], "test",
                           "multiclass")  # fmt: skip
    again = compare_metrics(
        measure_predictions(ours), ours, written(tmp_path / "shuffled", shuffled)
    )["accuracy"]
    assert again["interval"] == pytest.approx(found["interval"], abs=1e-12)
    assert again["difference"] == pytest.approx(found["difference"], abs=1e-12)
    strangers = make(seed=2, quality=1.5, keys=[f"x{i}" for i in range(300)])
    assert (
        compare_metrics(measure_predictions(ours), ours, written(tmp_path / "keys", strangers))[
            "accuracy"
        ]["interval"]
        is None
    )
    others = make(seed=2, names=[f"class {c}" for c in range(1, 9)])
    assert (
        compare_metrics(measure_predictions(ours), ours, written(tmp_path / "classes", others))[
            "accuracy"
        ]
        is None
    )


def test_the_terminal_and_the_table_of_classes_open_with_accuracy(tmp_path):
    predictions = make()
    metrics = measure_predictions(predictions)
    lines = evaluation_summary(metrics).splitlines()
    assert lines[0].startswith(f"accuracy {metrics['accuracy']:.4f}, 95% interval 0.")
    assert lines[1].startswith(f"top-5 {metrics['top5_accuracy']:.4f}   mAP 0.")
    shown = [float(line.split()[2]) for line in lines[4:12]]
    assert shown == sorted(shown, reverse=True)
    write_per_class(tmp_path / "per_class.csv", metrics)
    head, first, *_ = (tmp_path / "per_class.csv").read_text().splitlines()
    assert head.startswith("class,accuracy,precision,ap,")
    assert float(first.split(",")[1]) == metrics["per_class"]["class 0"]["accuracy"]


def test_of_very_many_classes_nothing_is_as_large_as_their_square():
    predictions = make(num_samples=40, num_classes=30_000)
    accuracy, precision = class_accuracy(predictions.scores, predictions.labels.int().argmax(1))
    assert accuracy.shape == precision.shape == (30_000,)  # a matrix of them would take 7 GB
    assert int((~accuracy.isnan()).sum()) == len(set(predictions.labels.int().argmax(1).tolist()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_measures_the_same(tmp_path):
    on_cpu = make()
    moved = (values.cuda() for values in (on_cpu.scores, on_cpu.labels, on_cpu.known))
    on_gpu = Predictions(*moved, on_cpu.keys, on_cpu.class_names, "test", "multiclass")
    expected, found = measure_predictions(on_cpu), measure_predictions(on_gpu)
    for name in ("accuracy", "accuracy_interval", "top5_accuracy_interval", "mean_class_accuracy"):
        assert found[name] == pytest.approx(expected[name], abs=1e-12)
    assert draw_examples(on_gpu, 0) == draw_examples(on_cpu, 0)
    assert surest_mistakes(on_gpu, 20) == surest_mistakes(on_cpu, 20)
    path = written(tmp_path / "old", make(seed=2))
    measured, wanted = (
        compare_metrics(found, on_gpu, path)["accuracy"],
        compare_metrics(expected, on_cpu, path)["accuracy"],
    )
    assert measured.keys() == wanted.keys()
    for name, value in wanted.items():  # the ends of intervals are not sums of whole numbers
        assert measured[name] == pytest.approx(value, abs=1e-12)
