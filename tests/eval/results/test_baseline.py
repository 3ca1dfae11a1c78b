"""Comparison with another evaluation: which file, which classes, paired or not."""

import json

import pytest
import torch

from eval.prediction.predictions import Predictions
from eval.results.baseline import (
    compare_metrics,
    find_metrics,
    find_thresholds,
    is_of_samples,
)
from eval.results.files import write_metrics, write_predictions
from eval.results.measure import measure_predictions
from shards.errors import DataError

NAMES = ["a", "b", "c"]


def make(seed, quality, names=NAMES, keys=None, num_samples=300):
    generator = torch.Generator().manual_seed(7)
    labels = torch.rand((num_samples, 3), generator=generator) < 0.3
    known = torch.rand(labels.shape, generator=generator) < 0.9
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(seed))
    return Predictions(
        torch.sigmoid(noise + quality * labels),
        labels,
        known,
        keys or [f"k{i}" for i in range(num_samples)],
        names,
        "val",
    )


def rows(predictions, order):
    return Predictions(
        predictions.scores[order],
        predictions.labels[order],
        predictions.known[order],
        [predictions.keys[i] for i in order],
        predictions.class_names,
        "val",
    )


def written(folder, predictions, with_predictions=True):
    folder.mkdir(parents=True)
    write_metrics(folder / "metrics.json", measure_predictions(predictions))
    if with_predictions:
        write_predictions(folder / "predictions.npz", predictions)
    return folder / "metrics.json"


def test_a_run_a_folder_or_a_file_is_found(tmp_path):
    path = written(tmp_path / "run" / "eval-val", make(0, 1))
    assert {find_metrics(str(given), "val") for given in (tmp_path / "run", path.parent, path)} == {
        path
    }
    with pytest.raises(
        DataError,
        match=r"--baseline .*run: no such file as .*eval-test/metrics.json; evaluate that run",
    ):
        find_metrics(str(tmp_path / "run"), "test")


def test_thresholds_are_those_of_val_and_never_of_what_is_evaluated(tmp_path):
    run, data = tmp_path / "run", str(tmp_path / "data")
    for split in ("val", "test"):
        (run / f"eval-{split}").mkdir(parents=True)
        metrics = measure_predictions(make(0, 1)) | {"split": split, "data": data}
        write_metrics(run / f"eval-{split}" / "metrics.json", metrics)
    names = tuple(metrics["per_class"])
    assert find_thresholds(str(run), data, "test", names) == run / "eval-val" / "metrics.json"
    assert (
        find_thresholds(str(run), str(tmp_path / "other"), "val", names)
        == run / "eval-val" / "metrics.json"
    )
    for given in (run / "eval-test", run / "eval-test" / "metrics.json"):
        with pytest.raises(
            DataError, match=r"is of test of .*, which is being evaluated: name an evaluation"
        ):
            find_thresholds(str(given), data + "/.", "test", names)
    with pytest.raises(DataError, match="has a threshold for none of the classes here"):
        find_thresholds(str(run), data, "test", ("another",))


def test_thresholds_of_the_same_samples_are_known_wherever_the_data_were(tmp_path):
    """The set was moved, packed again in another order, or its path was another folder's."""
    ours = make(0, 1)
    path = written(tmp_path / "same", rows(make(5, 2), torch.randperm(300).tolist()))
    arguments = (ours.keys, ours.labels, ours.known, NAMES)
    assert is_of_samples(path, *arguments)
    read = make(5, 2)
    read.known[:9] = False  # could not be read there
    assert is_of_samples(written(tmp_path / "read", read), *arguments)
    others = [
        written(tmp_path / "keys", make(5, 2, keys=[f"v{i}" for i in range(300)])),
        written(tmp_path / "classes", make(5, 2, names=["a", "b", "d"])),
        written(tmp_path / "fewer", make(5, 2, num_samples=200)),
        written(tmp_path / "alone", make(5, 2), with_predictions=False),
    ]
    relabelled = make(5, 2)
    relabelled.labels[7] = ~relabelled.labels[7]
    others.append(written(tmp_path / "labels", relabelled))
    assert not any(is_of_samples(other, *arguments) for other in others)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"mAP": 1}',
        '{"mAP": "x", "per_class": {}}',
        '{"mAP": 1, "per_class": []}',
        '{"mAP": 1, "per_class": {"a": {"ap": NaN}}}',
        '{"mAP": 1, "per_class": {"a": {"ap": 1, "best_f1_threshold": "x"}}}',
    ],
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"is not a metrics\.json of this evaluator"):
        find_metrics(str(tmp_path), "val")


def test_differences_are_of_the_classes_and_their_mean(tmp_path):
    ours, theirs = make(0, 2), make(1, 1)
    path = written(tmp_path / "old", theirs, with_predictions=False)
    found = compare_metrics(measure_predictions(ours), ours, path)
    ap, old = measure_predictions(ours)["per_class"], measure_predictions(theirs)["per_class"]
    for name in NAMES:
        assert found["per_class"][name] == {
            "difference": ap[name]["ap"] - old[name]["ap"],
            "interval": None,
        }
    assert found["difference"] == pytest.approx(
        measure_predictions(ours)["mAP"] - measure_predictions(theirs)["mAP"], abs=1e-12
    )
    assert found["baseline_mAP"] == pytest.approx(measure_predictions(theirs)["mAP"], abs=1e-12)
    assert found["interval"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_with_predictions_beside_the_interval_is_paired_in_any_order_of_samples(tmp_path):
    ours, theirs = make(0, 2), make(1, 1)
    path = written(tmp_path / "old", theirs)
    found = compare_metrics(measure_predictions(ours), ours, path)
    low, high = found["interval"]
    assert 0 < low < found["difference"] < high
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    again = compare_metrics(
        measure_predictions(ours), ours, written(tmp_path / "shuffled", rows(theirs, shuffled))
    )
    assert again["interval"] == pytest.approx(found["interval"], abs=1e-12)
    same = compare_metrics(measure_predictions(ours), ours, written(tmp_path / "same", ours))
    assert same["interval"] == [0, 0]
    assert all(entry["interval"] == [0, 0] for entry in same["per_class"].values())


def test_other_samples_or_labels_are_not_paired(tmp_path):
    ours, theirs = make(0, 2), make(1, 1)
    others = make(1, 1, keys=[f"x{i}" for i in range(300)])
    assert (
        compare_metrics(measure_predictions(ours), ours, written(tmp_path / "keys", others))[
            "interval"
        ]
        is None
    )
    labels = theirs.labels.clone()
    row = theirs.known[:, 0].nonzero()[0, 0]
    labels[row, 0] = ~labels[row, 0]
    other = Predictions(theirs.scores, labels, theirs.known, theirs.keys, NAMES, "val")
    assert (
        compare_metrics(measure_predictions(ours), ours, written(tmp_path / "labels", other))[
            "interval"
        ]
        is None
    )
    path = written(tmp_path / "damaged", theirs)
    (path.parent / "predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    assert compare_metrics(measure_predictions(ours), ours, path)["interval"] is None


def test_only_shared_classes_are_compared_by_name(tmp_path):
    ours = make(0, 2)
    theirs = make(1, 1, names=["c", "d", "a"])
    found = compare_metrics(measure_predictions(ours), ours, written(tmp_path / "old", theirs))
    assert list(found["per_class"]) == ["a", "c"]
    assert found["num_classes"] == 2
    old = measure_predictions(theirs)["per_class"]
    assert found["baseline_mAP"] == pytest.approx((old["a"]["ap"] + old["c"]["ap"]) / 2)
    strangers = make(1, 1, names=["x", "y", "z"])
    with pytest.raises(DataError, match="shares no class"):
        compare_metrics(measure_predictions(ours), ours, written(tmp_path / "strangers", strangers))
